#!/usr/bin/env bash
# No counterpart in the paper: small agent, random stand-in features, val seen as training split.
# One CPU core, 7 minutes for a path type; PATH_TYPE is planner_path, player_path or trusted_path.
set -euo pipefail
cd "$(dirname "$0")/../.."
path_type=${PATH_TYPE:-trusted_path}
run_dir=${RUN_DIR:-runs/ndh/small-$path_type}
python -m prevalent train-ndh ndh-small --path-type "$path_type" --run-dir "$run_dir" "$@"
