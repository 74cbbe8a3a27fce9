#!/usr/bin/env bash
# Table 1, PREVALENT. Paper: val unseen SR 58, SPL 53; test SR 54, SPL 51. One 1080Ti.
# Hours on our hardware: not run. Needs runs/r2r/{prevalent-stage1,speaker}.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/prevalent-stage2}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r prevalent-stage2 --run-dir "$run_dir" "$@"
