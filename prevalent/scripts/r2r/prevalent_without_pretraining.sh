#!/usr/bin/env bash
# Ablation: the same agent from random weights. No figure in the paper. One GPU.
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/prevalent-without-pretraining}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r prevalent-without-pretraining --run-dir "$run_dir" "$@"
