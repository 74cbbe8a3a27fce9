#!/usr/bin/env bash
# Class-conditional generation, ImageNet 64x64, FQ-BigGAN. Paper: FID 9.67, IS 25.96 (torch
# Inception, 50,000 samples). 250,228 iterations of 39 TFLOP; GPUs and hours not measured. Data:
# fqgan prepare imagenet (docs/data.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/imagenet64/fq-biggan}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train biggan-i64 --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
