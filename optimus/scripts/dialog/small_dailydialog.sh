#!/usr/bin/env bash
# DailyDialog from scratch, trained on the validation dialogues; no counterpart in the paper.
# `optimus prepare dailydialog` writes the data. One CPU core, about 10 minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/dialog/small_dailydialog}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
python -m optimus train-dialog small-dailydialog --run-dir "$run_dir" "$@"
python -m optimus evaluate-dialog --run-dir "$run_dir" $dry
