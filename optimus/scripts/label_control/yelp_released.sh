#!/usr/bin/env bash
# Table 6, Yelp, as the released code trains it: reconstruction alone, label 0
# a constant zero. No counterpart in the paper.
# Estimate: one 24 GB GPU, about 4 hours; starts from runs/pretrain/wikipedia_32/model.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/label_control/yelp_released}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
torchrun --standalone --nproc-per-node "${GPUS:-1}" -m optimus train-label-control yelp-released \
    --run-dir "$run_dir" "$@"
python -m optimus evaluate-label-control --run-dir "$run_dir" $dry
