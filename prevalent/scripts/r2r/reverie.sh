#!/usr/bin/env bash
# REVERIE: PREVALENT walks to where the object is seen; it names none. One GPU.
# Hours on our hardware: not run. Needs runs/pretrain/base/model, data/reverie.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/reverie}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r reverie --run-dir "$run_dir" "$@"
