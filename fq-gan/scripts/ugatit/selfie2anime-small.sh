#!/usr/bin/env bash
# Selfie2anime at 64 pixels and a quarter of the width, FQ-U-GAT-IT: for a CPU, about 25
# minutes on one core. No figure published; scores compare with the twin only. Data:
# fqgan prepare selfie2anime (docs/data.md).
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/ugatit/selfie2anime-small}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train ugatit-selfie2anime-small --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
