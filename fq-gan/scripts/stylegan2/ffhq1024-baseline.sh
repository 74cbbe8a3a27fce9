#!/usr/bin/env bash
# FFHQ 1024x1024, the twin of ffhq1024.sh without FQ. README of the authors for StyleGAN: FID 5.24
# (50,000 samples, TF Inception). 25 million images; GPU and hours not measured. Data: docs/data.md
# (FFHQ), fqgan prepare inception.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/stylegan2/ffhq1024-baseline}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train stylegan2-ffhq1024-baseline --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
