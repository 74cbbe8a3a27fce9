#!/usr/bin/env bash
# Sec. 4.4, STS-B, optimus, feature (paper's value unknown).
# Estimate: one 24 GB GPU, between minutes (RTE) and 5 hours (QQP, MNLI).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/low_resource/stsb_optimus_feature}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
    -m optimus train-classifier stsb-optimus-feature \
    --run-dir "$run_dir" "$@"
