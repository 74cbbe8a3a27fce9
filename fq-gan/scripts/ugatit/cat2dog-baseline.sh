#!/usr/bin/env bash
# Image-to-image translation, cat2dog, U-GAT-IT without FQ. U-GAT-IT's paper, KID
# x 100: cat2dog 7.07, dog2cat 8.15.
# 1,010,000 iterations of one image a domain; hours not measured. Data: fqgan prepare inception,
# fqgan prepare cat2dog (docs/data.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ugatit/cat2dog-baseline}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train ugatit-cat2dog-baseline --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
