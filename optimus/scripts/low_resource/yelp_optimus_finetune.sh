#!/usr/bin/env bash
# Low resource, Yelp (Sec. 4.4 figure, values unknown), optimus, finetune.
# 1 to 10,000 labels of each class, three seeds. Estimate: one 24 GB GPU, about 6 hours.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/low_resource/yelp_optimus_finetune}
torchrun --standalone --nproc-per-node "${GPUS:-1}" \
    -m optimus train-classifier yelp-optimus-finetune \
    --run-dir "$run_dir" "$@"
