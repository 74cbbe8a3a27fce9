#!/usr/bin/env bash
# Table 3, PREVALENT. Paper: SR 83.82 / 52.91, SPL 59.38 / 28.72 (SeenEnv / UnseenAll). One 1080Ti.
# Hours on our hardware: not run (needs the ResNet-152 features and HANNA's data). Needs runs/pretrain/base.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/hanna/prevalent}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-hanna prevalent --run-dir "$run_dir" "$@"
