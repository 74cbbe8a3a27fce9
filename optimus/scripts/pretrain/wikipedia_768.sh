#!/usr/bin/env bash
# Sec. 4.1, one epoch of Wikipedia, 768 dimensions. The authors: 5 days on 8 V100 (thread 10).
# Starts from weights/bert-base-cased and weights/gpt2; data from `optimus prepare wikipedia`.
# The beta of the released files is --objective.beta 0.0, 0.5 or 1.0.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/pretrain/wikipedia_768}
torchrun --standalone --nproc-per-node "${GPUS:-8}" -m optimus train pretrain-wikipedia-768 \
    --run-dir "$run_dir" "$@"
