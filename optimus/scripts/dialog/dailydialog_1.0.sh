#!/usr/bin/env bash
# Dialog, DailyDialog, beta 1 (Sec. 4.2), another weight of the regulariser.
# 10 responses per context; bag-of-words scores need --glove.
# Estimate: one 24 GB GPU, about 3 hours; starts from runs/pretrain/wikipedia_32/model.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/dialog/dailydialog_1.0}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
torchrun --standalone --nproc-per-node "${GPUS:-1}" -m optimus train-dialog dailydialog-1.0 \
    --run-dir "$run_dir" "$@"
python -m optimus evaluate-dialog --run-dir "$run_dir" $dry
