#!/usr/bin/env bash
# Sec. 4.4, the Wikipedia model on the texts of GLUE, before a classifier sees their labels (the
# paper gives no figure). Needs `optimus prepare glue-text --source data/glue`.
# Estimate: one 24 GB GPU, about 12 hours.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/low_resource/glue_text}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
torchrun --standalone --nproc-per-node "${GPUS:-1}" -m optimus train glue-text \
    --run-dir "$run_dir" "$@"
python -m optimus evaluate --run-dir "$run_dir" --split test $dry
