#!/usr/bin/env bash
# Class-conditional generation, CIFAR-100, FQ-BigGAN. Paper: FID 7.42, IS 9.59 (torch Inception,
# 50,000 samples). 97,500 iterations of 5.1 TFLOP; GPU and hours not measured. Data: fqgan prepare
# cifar100 (docs/data.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/cifar100/fq-biggan}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train biggan-c100 --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
