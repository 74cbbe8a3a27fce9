#!/usr/bin/env bash
# Class-conditional generation, ImageNet 128x128, BigGAN: the twin of fq-biggan.sh with the
# quantizer off. Paper: FID 14.88 (torch Inception, 50,000 samples). 125,114 iterations of 158
# TFLOP; GPUs and hours not measured.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/imagenet128/biggan}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train biggan-i128-baseline --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
