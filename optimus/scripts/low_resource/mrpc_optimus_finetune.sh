#!/usr/bin/env bash
# Sec. 4.4, MRPC, optimus, finetune (paper's value unknown).
# Estimate: one 24 GB GPU, between minutes (RTE) and 5 hours (QQP, MNLI).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/low_resource/mrpc_optimus_finetune}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
    -m optimus train-classifier mrpc-optimus-finetune \
    --run-dir "$run_dir" "$@"
