#!/usr/bin/env bash
# Table 2, PREVALENT, Mixed. Paper: goal progress 3.15 m val unseen, 2.44 m test. One 1080Ti.
# Hours on our hardware: not run. Needs runs/pretrain/base/model (scripts/pretrain/base.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ndh/prevalent-mixed}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-ndh prevalent-mixed --run-dir "$run_dir" "$@"
