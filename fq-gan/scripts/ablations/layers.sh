#!/usr/bin/env bash
# Ablation of the quantized layers on CIFAR-100. Paper, in words: several layers beat one. Each
# run: 97,500 iterations of 5.1 TFLOP; GPU and hours not measured.
set -euo pipefail
cd "$(dirname "$0")/../.."
for preset in biggan-c100{-layer0,-layer1,-layer2,-layer3,}; do
  run_dir=${RUN_DIR:-runs/ablations}/$preset
  torchrun --standalone --nproc-per-node "${GPUS:-1}" \
    -m fqgan train "$preset" --run-dir "$run_dir" "$@"
  [[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
done
