#!/usr/bin/env bash
# Variant: the action is the next view, counted from the present one (--action-target relative-view).
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/pretrain/relative_view}
torchrun --standalone --nproc-per-node "${GPUS:-8}" \
  -m prevalent pretrain prevalent-relative-view --run-dir "$run_dir" "$@"
