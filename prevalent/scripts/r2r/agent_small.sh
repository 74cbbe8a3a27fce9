#!/usr/bin/env bash
# No counterpart in the paper: small agent, random stand-in features. One CPU core, 10 minutes.
# Needs runs/pretrain/r2r-small/model (scripts/pretrain/r2r_small.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/agent-small}
python -m prevalent train-r2r r2r-agent-small --run-dir "$run_dir" "$@"
