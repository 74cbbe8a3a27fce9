#!/usr/bin/env bash
# Ablation: masked words without actions. Paper: CVDN goal progress 2.84 m, HANNA SPL 24.27.
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/pretrain/mlm_only}
torchrun --standalone --nproc-per-node "${GPUS:-8}" \
  -m prevalent pretrain prevalent-mlm-only --run-dir "$run_dir" "$@"
