#!/usr/bin/env bash
# Dialog, Switchboard with several references (Sec. 4.2). The data are not distributed:
# data/switchboard holds train.txt, test.txt and references.txt of `context TAB response`.
# Estimate: one 24 GB GPU, about 3 hours; starts from runs/pretrain/wikipedia_32/model.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/dialog/switchboard}
dry=$([[ " $* " == *" --dry-run "* ]] && echo --dry-run || true)
torchrun --standalone --nproc-per-node "${GPUS:-1}" -m optimus train-dialog switchboard \
    --run-dir "$run_dir" "$@"
python -m optimus evaluate-dialog --run-dir "$run_dir" $dry \
    --references data/switchboard/references.txt
