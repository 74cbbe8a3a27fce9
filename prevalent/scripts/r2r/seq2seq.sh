#!/usr/bin/env bash
# Table 1, Seq2Seq. Paper: val unseen SR 22, test SR 20, SPL 18 (six-action agent). One GPU.
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/r2r/seq2seq}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-r2r seq2seq --run-dir "$run_dir" "$@"
