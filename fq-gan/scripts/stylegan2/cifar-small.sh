#!/usr/bin/env bash
# CIFAR-10 images at a tenth of the width, FQ-StyleGAN: for a CPU, about 20 minutes on one core. No
# figure published; scores compare with the twin only. Data: docs/experiments.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/stylegan2/cifar-small}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train stylegan2-cifar-small --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
