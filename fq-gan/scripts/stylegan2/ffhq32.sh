#!/usr/bin/env bash
# FFHQ 32x32, FQ-StyleGAN (config-e, gamma 100). README of the authors: FID 3.01 (50,000 samples,
# TF Inception). 25 million images; GPU and hours not measured. Data: docs/data.md (FFHQ), fqgan
# prepare inception.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/stylegan2/ffhq32}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train stylegan2-ffhq32 --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
