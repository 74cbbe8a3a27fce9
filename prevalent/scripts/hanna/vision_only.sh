#!/usr/bin/env bash
# HANNA's ablation without ANNA's words. No figure in this paper. One GPU.
# Hours on our hardware: not run (needs the ResNet-152 features and HANNA's data).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/hanna/vision-only}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-hanna vision-only --run-dir "$run_dir" "$@"
