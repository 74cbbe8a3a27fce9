#!/usr/bin/env bash
# Sec. 4.4, MNLI, optimus, finetune (paper's value unknown).
# Estimate: one 24 GB GPU, between minutes (RTE) and 5 hours (QQP, MNLI).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/low_resource/mnli_optimus_finetune}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
    -m optimus train-classifier mnli-optimus-finetune \
    --run-dir "$run_dir" "$@"
