#!/usr/bin/env bash
# Table 3, no assistance. Paper: SR 17.21 / 8.10, SPL 13.76 / 4.23 (SeenEnv / UnseenAll). One GPU.
# Hours on our hardware: not run (needs the ResNet-152 features and HANNA's data).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/hanna/no-assistance}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-hanna no-assistance --run-dir "$run_dir" "$@"
