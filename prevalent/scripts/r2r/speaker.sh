#!/usr/bin/env bash
# EnvDrop's speaker, which back-translation needs. No figure in the paper. One GPU.
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/speaker}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-speaker envdrop --run-dir "$run_dir" "$@"
