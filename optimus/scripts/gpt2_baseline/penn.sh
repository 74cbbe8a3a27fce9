#!/usr/bin/env bash
# Table 1, PTB, GPT-2 fine-tuned without a latent. Paper: PPL 24.23.
# Estimate: one 24 GB GPU, about 1 hour; starts from weights/gpt2 (see docs/data.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/gpt2_baseline/penn}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
torchrun --standalone --nproc-per-node "${GPUS:-1}" -m optimus train gpt2-penn \
    --run-dir "$run_dir" "$@"
python -m optimus evaluate --run-dir "$run_dir" --split test $dry
