#!/usr/bin/env bash
# FFHQ 1024x1024, StyleGAN of 2019 with progressive growing (config-a). No row of its own in the
# paper. 25 million images; GPU and hours not measured. Data: docs/data.md (FFHQ), fqgan prepare
# inception.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/stylegan2/stylegan1}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train stylegan2-config-a --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
