#!/usr/bin/env bash
# R4R: PREVALENT on paths that are no shortest ones; PRESET=r4r-goal leads it to the goal alone.
# One GPU, hours on our hardware: not run. Needs runs/pretrain/base/model, data/r4r.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/${PRESET:-r4r}}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r "${PRESET:-r4r}" --run-dir "$run_dir" "$@"
