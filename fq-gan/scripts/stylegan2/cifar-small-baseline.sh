#!/usr/bin/env bash
# CIFAR-10 images at a tenth of the width, StyleGAN2 without FQ: the twin of cifar-small.sh, about
# 20 minutes on one core of a CPU. No figure published. Data: docs/experiments.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/stylegan2/cifar-small-baseline}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train stylegan2-cifar-small-baseline --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
