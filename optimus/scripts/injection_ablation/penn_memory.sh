#!/usr/bin/env bash
# Injection ablation (figure of the paper), PTB, beta 0, latent as memory.
# Paper: curves of the reconstruction error over steps, no numbers at hand.
# Estimate: one 24 GB GPU, about 1 hour; starts from weights/bert-base-cased and weights/gpt2.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/injection_ablation/penn_memory}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
torchrun --standalone --nproc-per-node "${GPUS:-1}" -m optimus train inject-penn-memory \
    --run-dir "$run_dir" "$@"
python -m optimus evaluate --run-dir "$run_dir" --reconstruction-study $dry
