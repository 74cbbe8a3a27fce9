#!/usr/bin/env bash
# Variant: the text side begins from BERT (a local folder; --init-from).
# Hours on our hardware: not run.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/pretrain/bert_init}
torchrun --standalone --nproc-per-node "${GPUS:-8}" \
  -m prevalent pretrain prevalent-bert-init --run-dir "$run_dir" "$@"
