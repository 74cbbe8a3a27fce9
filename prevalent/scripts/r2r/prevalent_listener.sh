#!/usr/bin/env bash
# PREVALENT before back-translation; prevalent_stage1.sh continues it. One GPU.
# Hours on our hardware: not run. Needs runs/pretrain/base/model.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/prevalent-listener}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r prevalent-listener --run-dir "$run_dir" "$@"
