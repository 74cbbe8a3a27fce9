#!/usr/bin/env bash
# Film reviews (rt-polarity) from scratch; no counterpart in the paper. `optimus prepare labeled
# --folder data/rt-polarity --classes NEG POS` writes the data. One CPU core, about 10 minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/label_control/small_rt_polarity}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
python -m optimus train-label-control small-rt-polarity --run-dir "$run_dir" "$@"
python -m optimus evaluate-label-control --run-dir "$run_dir" $dry
