#!/usr/bin/env bash
# Tatoeba, SmolLM2 fine-tuned alone; no counterpart in the paper.
# One CPU core, about 15 minutes. Weights: an encoder and a decoder in weights/.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/real_weights/tatoeba_lm}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
python -m optimus train real-tatoeba-lm --run-dir "$run_dir" "$@"
python -m optimus evaluate --run-dir "$run_dir" --split test --max-sentences 200 --samples 50 $dry
