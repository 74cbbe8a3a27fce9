#!/usr/bin/env bash
# FFHQ 1024x1024, FQ on StyleGAN2's large networks (config-f, gamma 10). Paper, as quoted by a
# summary: FID 3.19 (50,000 samples, TF Inception). 25 million images; GPU and hours not measured.
# Data: docs/data.md (FFHQ), fqgan prepare inception.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/stylegan2/ffhq1024-f}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train stylegan2-ffhq1024-f --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
