#!/usr/bin/env bash
# EnvDrop's agent before back-translation; envdrop_back_translation.sh continues it. One GPU.
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/envdrop}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r envdrop --run-dir "$run_dir" "$@"
