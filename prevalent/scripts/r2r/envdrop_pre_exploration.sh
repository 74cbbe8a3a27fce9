#!/usr/bin/env bash
# EnvDrop after exploring the unseen houses. EnvDrop quotes test SR 64, SPL 61. One GPU.
# Hours on our hardware: not run. Needs paths sampled there in data/r2r/unseen_paths.json.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/envdrop-pre-exploration}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r envdrop-pre-exploration --run-dir "$run_dir" "$@"
