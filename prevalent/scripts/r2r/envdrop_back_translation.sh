#!/usr/bin/env bash
# Table 1, EnvDrop. Paper: val unseen SR 52, SPL 48; test SR 51, SPL 47. One GPU.
# Hours on our hardware: not run. Needs runs/r2r/envdrop, runs/r2r/speaker, data/r2r/aug_paths.json.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/envdrop-back-translation}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r envdrop-back-translation --run-dir "$run_dir" "$@"
