#!/usr/bin/env bash
# No counterpart in the paper: a small model, R2R training paths, stand-in features. One CPU core, 20 minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/pretrain/r2r_small}
python -m prevalent pretrain r2r-small --run-dir "$run_dir" "$@"
