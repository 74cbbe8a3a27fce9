#!/usr/bin/env bash
# PTB from scratch, small model, lambda 0 (plain VAE); no counterpart in the paper.
# One CPU core, about 25 minutes. Vocabularies are learned from the corpus.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/from_scratch/small_penn_0.00}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
python -m optimus train small-penn-0.00 --run-dir "$run_dir" "$@"
python -m optimus evaluate --run-dir "$run_dir" --split test $dry
