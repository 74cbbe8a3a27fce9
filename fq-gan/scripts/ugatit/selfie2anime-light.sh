#!/usr/bin/env bash
# Image-to-image translation, selfie2anime, light FQ-U-GAT-IT: a fifth of the parameters. No figure
# published. 1,010,000 iterations; hours not measured. Data: fqgan prepare inception, fqgan
# prepare selfie2anime (docs/data.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ugatit/selfie2anime-light}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train ugatit-selfie2anime-light --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
