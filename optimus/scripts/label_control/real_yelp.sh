#!/usr/bin/env bash
# Yelp sentiment on the VAE of MiniLM and SmolLM2 that real_weights/yelp_0.50.sh leaves; trained on
# the dev files, for lack of the training files. No counterpart in the paper. One CPU core, about
# 30 minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/label_control/real_yelp}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
python -m optimus train-label-control real-yelp --run-dir "$run_dir" "$@"
python -m optimus evaluate-label-control --run-dir "$run_dir" $dry
