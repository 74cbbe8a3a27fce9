#!/usr/bin/env bash
# Class-conditional generation, CIFAR-10, FQ-BigGAN. Paper: FID 5.59, IS 8.48 (torch Inception,
# 50,000 samples). 97,500 iterations of 5.1 TFLOP; GPU and hours not measured. Data: fqgan prepare
# cifar10 (docs/data.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/cifar10/fq-biggan}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train biggan-c10 --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
