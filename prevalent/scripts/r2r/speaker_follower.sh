#!/usr/bin/env bash
# Table 1, Speaker-Follower. Paper: val unseen SR 35, test SR 35, SPL 28 (by search). One GPU.
# Hours on our hardware: not run. Needs data/r2r/aug_paths.json.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/speaker-follower}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r speaker-follower --run-dir "$run_dir" "$@"
