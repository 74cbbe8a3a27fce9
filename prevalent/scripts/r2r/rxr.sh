#!/usr/bin/env bash
# RxR: three languages in one agent; PRESET=rxr-en, rxr-hi or rxr-te takes one. One GPU.
# Hours on our hardware: not run. Needs data/rxr, the multilingual vocabulary; rxr-en the encoder.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/${PRESET:-rxr}}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r "${PRESET:-rxr}" --run-dir "$run_dir" "$@"
