#!/usr/bin/env bash
# No figure in the paper: PREVALENT, Mixed, from random weights. One 1080Ti.
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ndh/prevalent-without-pretraining}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-ndh prevalent-without-pretraining --run-dir "$run_dir" "$@"
