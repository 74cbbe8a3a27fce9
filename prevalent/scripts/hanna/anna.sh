#!/usr/bin/env bash
# Table 3, ANNA (base agent). Paper: SR 88.37 / 47.45, SPL 63.92 / 25.50 (SeenEnv / UnseenAll). One GPU.
# Hours on our hardware: not run (needs the ResNet-152 features and HANNA's data).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/hanna/anna}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-hanna anna --run-dir "$run_dir" "$@"
