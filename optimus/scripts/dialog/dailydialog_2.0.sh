#!/usr/bin/env bash
# Table 4, DailyDialog, beta 2. Paper: BLEU recall 0.362, precision 0.313, F1 0.336. 10 responses
# per context; bag-of-words scores need --glove.
# Estimate: one 24 GB GPU, about 3 hours; starts from runs/pretrain/wikipedia_32/model.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/dialog/dailydialog_2.0}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
torchrun --standalone --nproc-per-node "${GPUS:-1}" -m optimus train-dialog dailydialog-2.0 \
    --run-dir "$run_dir" "$@"
python -m optimus evaluate-dialog --run-dir "$run_dir" $dry
