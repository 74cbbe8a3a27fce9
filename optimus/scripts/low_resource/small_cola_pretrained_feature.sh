#!/usr/bin/env bash
# CoLA with 1, 10 and 100 % of the labels, pretrained, CPU.
# No counterpart in the paper. Encoder or vocabulary of runs/from_scratch/small_tatoeba_0.50.
# One CPU core, about 10 minutes; prints mean ± deviation over three seeds.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/low_resource/small_cola_pretrained_feature}
python -m optimus train-classifier small-cola-pretrained-feature --run-dir "$run_dir" "$@"
