#!/usr/bin/env bash
# Image-to-image translation, cat2dog, FQ-U-GAT-IT. Paper, KID x 100: not known here.
# 1,010,000 iterations of one image a domain; hours not measured. Data: fqgan prepare inception,
# fqgan prepare cat2dog (docs/data.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ugatit/cat2dog}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train ugatit-cat2dog --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
