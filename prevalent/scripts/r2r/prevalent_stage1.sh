#!/usr/bin/env bash
# Table 5, feature-based PREVALENT. Paper: test SPL 49. One 1080Ti.
# Hours on our hardware: not run. Needs runs/r2r/{prevalent-listener,speaker}.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/prevalent-stage1}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r prevalent-stage1 --run-dir "$run_dir" "$@"
