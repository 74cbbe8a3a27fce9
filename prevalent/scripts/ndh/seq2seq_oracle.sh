#!/usr/bin/env bash
# Table 2, Seq2Seq, Oracle. Paper: goal progress 1.23 m val unseen, 1.25 m test. One GPU.
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ndh/seq2seq-oracle}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-ndh seq2seq-oracle --run-dir "$run_dir" "$@"
