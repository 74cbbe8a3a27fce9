#!/usr/bin/env bash
# Graph-based agent: masked words and the next step of annotated and augmented paths.
# After Chen et al. (CVPR 2022), not a row of our papers. One GPU; hours: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/graph/pretrain}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-graph pretrain --run-dir "$run_dir" "$@"
