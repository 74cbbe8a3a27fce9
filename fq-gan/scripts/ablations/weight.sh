#!/usr/bin/env bash
# Ablation of the FQ weight on CIFAR-100. Paper, in words: a weight of 1 is usual. Each run: 97,500
# iterations of 5.1 TFLOP; GPU and hours not measured.
set -euo pipefail
cd "$(dirname "$0")/../.."
for preset in biggan-c100-weight0.5 biggan-c100-weight1 biggan-c100-weight5 biggan-c100; do
  run_dir=${RUN_DIR:-runs/ablations}/$preset
  torchrun --standalone --nproc-per-node "${GPUS:-1}" \
    -m fqgan train "$preset" --run-dir "$run_dir" "$@"
  [[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
done
