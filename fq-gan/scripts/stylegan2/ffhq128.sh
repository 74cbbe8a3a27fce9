#!/usr/bin/env bash
# FFHQ 128x128, FQ-StyleGAN (config-e, gamma 100). README of the authors: FID 5.98 (50,000 samples,
# TF Inception). 25 million images; GPU and hours not measured. Data: docs/data.md (FFHQ), fqgan
# prepare inception.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/stylegan2/ffhq128}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train stylegan2-ffhq128 --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
