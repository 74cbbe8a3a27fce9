#!/usr/bin/env bash
# Table 1, Yelp, GPT-2 fine-tuned without a latent. Paper: PPL 23.40.
# Estimate: four 24 GB GPUs, about 2 hours; starts from weights/gpt2 (see docs/data.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/gpt2_baseline/yelp}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
torchrun --standalone --nproc-per-node "${GPUS:-1}" -m optimus train gpt2-yelp \
    --run-dir "$run_dir" "$@"
python -m optimus evaluate --run-dir "$run_dir" --split test $dry
