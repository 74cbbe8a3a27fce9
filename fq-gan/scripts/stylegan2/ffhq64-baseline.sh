#!/usr/bin/env bash
# FFHQ 64x64, the twin of ffhq64.sh without FQ. README of the authors for StyleGAN: FID 4.82
# (50,000 samples, TF Inception). 25 million images; GPU and hours not measured. Data: docs/data.md
# (FFHQ), fqgan prepare inception.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/stylegan2/ffhq64-baseline}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train stylegan2-ffhq64-baseline --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
