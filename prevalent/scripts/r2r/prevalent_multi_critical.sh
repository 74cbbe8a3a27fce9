#!/usr/bin/env bash
# Table 1 (M), PREVALENT. Paper: val unseen SR 60, SPL 57; test SR 59, SPL 56. One GPU.
# Hours on our hardware: not run. Needs runs/r2r/prevalent-multi.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/prevalent-multi-critical}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r prevalent-multi-critical --run-dir "$run_dir" "$@"
