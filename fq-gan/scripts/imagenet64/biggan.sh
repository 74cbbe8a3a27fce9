#!/usr/bin/env bash
# Class-conditional generation, ImageNet 64x64, BigGAN: the twin of fq-biggan.sh with the quantizer
# off. Paper: FID 10.55 (torch Inception, 50,000 samples). 250,228 iterations of 39 TFLOP; GPUs and
# hours not measured.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/imagenet64/biggan}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train biggan-i64-baseline --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
