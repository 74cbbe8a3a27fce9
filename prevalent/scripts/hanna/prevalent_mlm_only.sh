#!/usr/bin/env bash
# Table 7 (appendix), masked words only. Paper: UnseenAll SPL 24.27. One 1080Ti.
# Hours on our hardware: not run (needs the ResNet-152 features and HANNA's data). Needs runs/pretrain/mlm-only.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/hanna/prevalent-mlm-only}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-hanna prevalent-mlm-only --run-dir "$run_dir" "$@"
