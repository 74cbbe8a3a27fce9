#!/usr/bin/env bash
# FFHQ 1024x1024, StyleGAN2 (config-f), the twin of ffhq1024-f.sh without FQ. Paper, as quoted by a
# summary: FID 3.31 (50,000 samples, TF Inception). 25 million images; GPU and hours not measured.
# Data: docs/data.md (FFHQ), fqgan prepare inception.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/stylegan2/ffhq1024-f-baseline}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train stylegan2-ffhq1024-f-baseline --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
