#!/usr/bin/env bash
# Table 1, SNLI, GPT-2 fine-tuned without a latent. Paper: PPL 19.68.
# Estimate: four 24 GB GPUs, about 8 hours; starts from weights/gpt2 (see docs/data.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/gpt2_baseline/snli}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
torchrun --standalone --nproc-per-node "${GPUS:-1}" -m optimus train gpt2-snli \
    --run-dir "$run_dir" "$@"
python -m optimus evaluate --run-dir "$run_dir" --split test $dry
