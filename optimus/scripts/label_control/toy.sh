#!/usr/bin/env bash
# Tense in the toy grammar, three labels; `optimus prepare toy-labels` writes the data.
# No counterpart in the paper. One CPU core, about 5 minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/label_control/toy}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
python -m optimus train-label-control toy --run-dir "$run_dir" "$@"
python -m optimus evaluate-label-control --run-dir "$run_dir" $dry
