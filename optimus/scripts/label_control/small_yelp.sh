#!/usr/bin/env bash
# Yelp sentiment from scratch; trained on the dev files, for lack of the training files.
# No counterpart in the paper. One CPU core, about 10 minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/label_control/small_yelp}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
python -m optimus train-label-control small-yelp --run-dir "$run_dir" "$@"
python -m optimus evaluate-label-control --run-dir "$run_dir" $dry
