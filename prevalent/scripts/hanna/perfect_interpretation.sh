#!/usr/bin/env bash
# Table 3, perfect assistance interpretation. Paper: SR 90.99 / 83.56. One GPU.
# Hours on our hardware: not run (needs the ResNet-152 features and HANNA's data).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/hanna/perfect-interpretation}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-hanna perfect-interpretation --run-dir "$run_dir" "$@"
