#!/usr/bin/env bash
# Table 2, Seq2Seq, Mixed. Paper: goal progress 2.10 m val unseen, 2.35 m test. One GPU.
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ndh/seq2seq-mixed}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-ndh seq2seq-mixed --run-dir "$run_dir" "$@"
