#!/usr/bin/env bash
# Yelp, lambda 0.50; no counterpart in the paper.
# One CPU core, about 20 minutes. Weights: an encoder and a decoder in weights/.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/real_weights/yelp_0.50}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
python -m optimus train real-yelp-0.50 --run-dir "$run_dir" "$@"
python -m optimus evaluate --run-dir "$run_dir" --split test --max-sentences 200 --samples 50 $dry
