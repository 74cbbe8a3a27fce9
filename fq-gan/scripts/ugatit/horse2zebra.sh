#!/usr/bin/env bash
# Image-to-image translation, horse2zebra, FQ-U-GAT-IT. Paper, KID x 100: not known here.
# 1,010,000 iterations of one image a domain; hours not measured. Data: fqgan prepare inception,
# fqgan prepare horse2zebra (docs/data.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ugatit/horse2zebra}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train ugatit-horse2zebra --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
