#!/usr/bin/env bash
# Table 4, masked words only. Paper: goal progress 2.84 m val unseen. One 1080Ti.
# Hours on our hardware: not run. Needs runs/pretrain/mlm-only/model (scripts/pretrain/mlm_only.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ndh/prevalent-mlm-only}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-ndh prevalent-mlm-only --run-dir "$run_dir" "$@"
