#!/usr/bin/env bash
# Ablation: masked words without images and actions.
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/pretrain/text_only}
torchrun --standalone --nproc-per-node "${GPUS:-8}" \
  -m prevalent pretrain prevalent-text-only --run-dir "$run_dir" "$@"
