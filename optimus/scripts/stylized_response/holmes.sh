#!/usr/bin/env bash
# Styled responses in the manner of Sherlock Holmes: an extension, the authors published no code.
# data/reddit holds dialogues, data/holmes/train.txt sentences of the style (StyleFusion release).
# Estimate: one 24 GB GPU, about 3 hours; starts from runs/pretrain/wikipedia_32/model.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/stylized_response/holmes}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
torchrun --standalone --nproc-per-node "${GPUS:-1}" -m optimus train-dialog stylized \
    --run-dir "$run_dir" "$@"
python -m optimus evaluate-dialog --run-dir "$run_dir" $dry \
    --style data/holmes/train.txt --style-degree 0.5
