#!/usr/bin/env bash
# HANNA's ablation without curiosity. No figure in this paper. One GPU.
# Hours on our hardware: not run (needs the ResNet-152 features and HANNA's data).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/hanna/no-curious}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-hanna no-curious --run-dir "$run_dir" "$@"
