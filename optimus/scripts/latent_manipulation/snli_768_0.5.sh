#!/usr/bin/env bash
# Sec. 5.2, SNLI, 768 dimensions, beta 0.5, lambda 5, length weighted, 31250 steps.
# Paper: examples of interpolation and analogy only. Estimate: four 24 GB GPUs, about 3 hours.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/latent_manipulation/snli_768_0.5}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
torchrun --standalone --nproc-per-node "${GPUS:-1}" -m optimus train manipulate-snli-768-0.5 \
    --run-dir "$run_dir" "$@"
python -m optimus generate interpolate --model "$run_dir" --steps 10 \
    --texts "a man is walking ." "two dogs run in the snow ." $dry
