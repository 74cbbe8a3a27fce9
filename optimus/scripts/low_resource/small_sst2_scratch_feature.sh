#!/usr/bin/env bash
# SST-2 with 1, 10 and 100 % of the labels, scratch, CPU.
# No counterpart in the paper. Encoder or vocabulary of runs/from_scratch/small_tatoeba_0.50.
# One CPU core, about 10 minutes; prints mean ± deviation over three seeds.
set -euo pipefail
cd "$(dirname "$0")/../.."
run_dir=${RUN_DIR:-runs/low_resource/small_sst2_scratch_feature}
python -m optimus train-classifier small-sst2-scratch-feature --run-dir "$run_dir" "$@"
