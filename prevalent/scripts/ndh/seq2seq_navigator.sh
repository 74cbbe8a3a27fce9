#!/usr/bin/env bash
# Table 2, Seq2Seq, Navigator. Paper: goal progress 1.98 m val unseen, 2.11 m test. One GPU.
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ndh/seq2seq-navigator}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-ndh seq2seq-navigator --run-dir "$run_dir" "$@"
