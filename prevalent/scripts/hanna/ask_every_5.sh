#!/usr/bin/env bash
# HANNA's baseline that asks every five steps. No figure in this paper. One GPU.
# Hours on our hardware: not run (needs the ResNet-152 features and HANNA's data).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/hanna/ask-every-5}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-hanna ask-every-5 --run-dir "$run_dir" "$@"
