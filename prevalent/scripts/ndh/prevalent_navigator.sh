#!/usr/bin/env bash
# Table 2, PREVALENT, Navigator. Paper: goal progress 2.99 m val unseen, 2.39 m test. One 1080Ti.
# Hours on our hardware: not run. Needs runs/pretrain/base/model (scripts/pretrain/base.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ndh/prevalent-navigator}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-ndh prevalent-navigator --run-dir "$run_dir" "$@"
