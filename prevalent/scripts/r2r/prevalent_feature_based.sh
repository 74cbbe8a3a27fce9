#!/usr/bin/env bash
# Table 5: stage 2 with the encoder frozen. Paper: test SPL 49 against 51. One GPU.
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/prevalent-feature-based}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r prevalent-feature-based --run-dir "$run_dir" "$@"
