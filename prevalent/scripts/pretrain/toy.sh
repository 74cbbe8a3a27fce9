#!/usr/bin/env bash
# No counterpart in the paper: toy houses made by code, target relative-view. One CPU core, 10 minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/pretrain/toy}
python -m prevalent pretrain toy --run-dir "$run_dir" "$@"
