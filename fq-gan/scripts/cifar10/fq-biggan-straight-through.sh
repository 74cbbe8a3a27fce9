#!/usr/bin/env bash
# Class-conditional generation, CIFAR-10, the model as the paper draws it: D goes on with the
# codes. No figure of its own: the released code, which gave the paper's FID 5.59, feeds the
# features forward.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/cifar10/fq-biggan-straight-through}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m fqgan train biggan-c10-straight --run-dir "$run_dir" "$@"
[[ " $* " == *" --dry-run "* ]] || fqgan evaluate --run-dir "$run_dir"
