#!/usr/bin/env bash
# Class-conditional generation, ImageNet 128x128, FQ-BigGAN. Paper: FID 13.77, IS 54.36 (torch
# Inception, 50,000 samples). 125,114 iterations of 158 TFLOP; GPUs and hours not measured. Data:
# fqgan prepare imagenet (docs/data.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/imagenet128/fq-biggan}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train biggan-i128 --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
