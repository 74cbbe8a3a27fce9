#!/usr/bin/env bash
# Table 4, Oracle's answer as input. Paper: goal progress 2.78 m val unseen. One 1080Ti.
# Hours on our hardware: not run. Needs runs/pretrain/base/model (scripts/pretrain/base.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ndh/prevalent-oracle-answer}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-ndh prevalent-oracle-answer --run-dir "$run_dir" "$@"
