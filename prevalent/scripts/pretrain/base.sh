#!/usr/bin/env bash
# Sec. 3, pre-training. Paper: 8 V100, batch 96 a GPU, 20 epochs, learning rate 5e-5.
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/pretrain/base}
torchrun --standalone --nproc-per-node "${GPUS:-8}" \
  -m prevalent pretrain prevalent-base --run-dir "$run_dir" "$@"
