#!/usr/bin/env bash
# Tatoeba from scratch, mid model, lambda 0 (plain VAE); no counterpart in the paper.
# One 24 GB GPU, well below an hour. Vocabularies are learned from the corpus.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/from_scratch/mid_tatoeba_0.00}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
python -m optimus train mid-tatoeba-0.00 --run-dir "$run_dir" "$@"
python -m optimus evaluate --run-dir "$run_dir" --split test $dry
