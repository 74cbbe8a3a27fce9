#!/usr/bin/env bash
# No row of a table: PREVALENT on the instructions that pre-training used. One GPU.
# Hours on our hardware: not run. Needs runs/pretrain/base/model, data/r2r/prevalent_aug.json.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/augmented}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r prevalent-augmented --run-dir "$run_dir" "$@"
