#!/usr/bin/env bash
# Table 1 (M), PREVALENT. Paper: val unseen SR 60, SPL 57; test SR 59, SPL 56, with a further phase
# (prevalent_multi_critical.sh). Hours on our hardware: not run. Needs runs/pretrain/base.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/prevalent-multi}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r prevalent-multi --run-dir "$run_dir" "$@"
