#!/usr/bin/env bash
# Image-to-image translation, selfie2anime, FQ-U-GAT-IT. Paper, KID x 100: selfie2anime 11.40,
# anime2selfie 10.23.
# 1,010,000 iterations of one image a domain; hours not measured. Data: fqgan prepare inception,
# fqgan prepare selfie2anime (docs/data.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ugatit/selfie2anime}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train ugatit-selfie2anime --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
