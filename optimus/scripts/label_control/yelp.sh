#!/usr/bin/env bash
# Table 6, Yelp (Sec. 4.3). Paper: accuracy 0.998, BLEU 0.398, G-score 0.630,
# self-BLEU 0.243.
# Estimate: one 24 GB GPU, about 4 hours; starts from runs/pretrain/wikipedia_32/model.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/label_control/yelp}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
torchrun --standalone --nproc-per-node "${GPUS:-1}" -m optimus train-label-control yelp \
    --run-dir "$run_dir" "$@"
python -m optimus evaluate-label-control --run-dir "$run_dir" $dry
