#!/usr/bin/env bash
# Latent pre-training of MiniLM and SmolLM2 on all unlabelled text at hand; fine-tuning follows in
# tatoeba_0.50_pretrained.sh. One CPU core, about 45 minutes; the same command again continues.
set -euo pipefail
cd "$(dirname "$0")/../.."
python -m optimus train real-pretrain --run-dir "${RUN_DIR:-runs/real_weights/pretrain}" "$@"
