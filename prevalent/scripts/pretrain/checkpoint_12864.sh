#!/usr/bin/env bash
# The released checkpoint-12864 by its name: one epoch, global batch 512 (our reading of the name).
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/pretrain/checkpoint_12864}
torchrun --standalone --nproc-per-node "${GPUS:-8}" \
  -m prevalent pretrain prevalent-checkpoint-12864 --run-dir "$run_dir" "$@"
