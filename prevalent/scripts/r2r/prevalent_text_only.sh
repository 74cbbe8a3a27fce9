#!/usr/bin/env bash
# Ablation: encoder pre-trained without images. No R2R figure. One GPU.
# Hours on our hardware: not run. Needs runs/pretrain/text-only/model.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/prevalent-text-only}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r prevalent-text-only --run-dir "$run_dir" "$@"
