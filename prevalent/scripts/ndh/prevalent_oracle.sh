#!/usr/bin/env bash
# Table 2, PREVALENT, Oracle. Paper: goal progress 2.58 m val unseen, 1.67 m test. One 1080Ti.
# Hours on our hardware: not run. Needs runs/pretrain/base/model (scripts/pretrain/base.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ndh/prevalent-oracle}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-ndh prevalent-oracle --run-dir "$run_dir" "$@"
