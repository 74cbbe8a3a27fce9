#!/usr/bin/env bash
# SOON: PREVALENT walks to the object; it does not point at it. One GPU.
# Hours on our hardware: not run. Needs runs/pretrain/base/model, data/soon.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/soon}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r soon --run-dir "$run_dir" "$@"
