#!/usr/bin/env bash
# Table 1, SNLI, lambda 0.10. Paper: PPL 13.48.
# Also: AU 32. PPL is per GPT-2 token with BOS and EOS.
# Estimate: four 24 GB GPUs, about 8 hours; starts from runs/pretrain/wikipedia_32/model.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/language_modeling/snli_0.10}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
torchrun --standalone --nproc-per-node "${GPUS:-1}" -m optimus train lm-snli-0.10 \
    --run-dir "$run_dir" "$@"
python -m optimus evaluate --run-dir "$run_dir" --split test $dry
