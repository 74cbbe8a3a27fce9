#!/usr/bin/env bash
# Table 1, PTB, lambda 1.00. Paper: PPL 35.53.
# Also: AU 32. PPL is per GPT-2 token with BOS and EOS.
# Estimate: one 24 GB GPU, about 1 hour; starts from runs/pretrain/wikipedia_32/model.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/language_modeling/penn_1.00}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
torchrun --standalone --nproc-per-node "${GPUS:-1}" -m optimus train lm-penn-1.00 \
    --run-dir "$run_dir" "$@"
python -m optimus evaluate --run-dir "$run_dir" --split test $dry
