#!/usr/bin/env bash
# Graph-based agent on R2R, after scripts/graph/pretrain.sh: imitation of an expert.
# After Chen et al. (CVPR 2022), not a row of our papers. One GPU; hours: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/graph/r2r}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
  -m prevalent train-graph r2r --run-dir "$run_dir" "$@"
