#!/usr/bin/env bash
# Image-to-image translation, portrait, U-GAT-IT without FQ. U-GAT-IT's paper, KID
# x 100: photo2portrait 1.79, portrait2photo 1.69.
# 1,010,000 iterations of one image a domain; hours not measured. Data: fqgan prepare inception,
# fqgan prepare portrait (docs/data.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ugatit/portrait-baseline}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train ugatit-portrait-baseline --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
