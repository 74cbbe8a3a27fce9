"""``fqgan evaluate`` of a U-GAT-IT run or folder of weights: KID of both directions."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.unpaired import UnpairedConfig, build_domains
from ..runtime import distributed
from ..runtime.command import parse
from ..scoring import record_evaluation
from ..weight_files import run_of, weights_of_run
from .options import TranslationScoring, UgatitTrain
from .scores import TranslationScorer
from .weights import load_weights


@dataclass(frozen=True)
class EvaluateConfig:
    """Score the translations of the test images. A run brings its own settings."""

    run_dir: str = ""
    """Folder of a run."""
    weights: str = ""
    """Folder of weights, from a run or from `fqgan convert ugatit`."""
    seed: int = 0
    """Of the toy images."""
    device: str = "auto"
    """auto, cpu or cuda."""
    data: UnpairedConfig = field(default_factory=UnpairedConfig)
    scoring: TranslationScoring = field(default_factory=lambda: TranslationScoring("inception"))

    def __post_init__(self) -> None:
        if self.run_dir and self.weights:
            raise ValueError("give only one of --run-dir and --weights")


def main(argv: Sequence[str]) -> None:
    """Run ``fqgan evaluate --run-dir runs/ugatit``; two rows, one a direction."""
    default = EvaluateConfig()
    run = run_of(UgatitTrain, argv)
    if run is not None:
        default = EvaluateConfig(data=run.data, scoring=run.scoring, seed=run.seed)
    rows = evaluate(parse(EvaluateConfig, argv, "fqgan evaluate", default=default))
    if os.environ.get("RANK", "0") == "0":  # the group of processes is gone by now
        print(json.dumps(rows, indent=2))


def evaluate(config: EvaluateConfig) -> list[dict[str, Any]]:
    """Score what ``config`` names and add a line a direction to ``evaluations.jsonl`` beside it."""
    if not (config.run_dir or config.weights):
        raise ValueError("nothing to score: give --run-dir or --weights")
    with distributed.start(config.device, seed=config.seed) as world:
        source = Path(config.weights or weights_of_run(config.run_dir))
        weights = load_weights(source, device=world.device)
        if config.data.resolution != weights.config.image_size and not weights.a_to_b.light:
            raise ValueError(
                f"--data.resolution {config.data.resolution}: these weights translate images of "
                f"{weights.config.image_size} pixels"
            )
        domains = build_domains(config.data, "test", seed=config.seed)
        scorer = TranslationScorer(config.scoring, domains, weights.domain_names, world.device)
        facts = {
            "weights": str(source),
            "step": weights.step,
            "split": "test",
            "subsets": config.scoring.subsets,
            "subset_size": scorer.subset_size,
        }
        rows = []
        for place, (name, found) in enumerate(scorer(weights.a_to_b, weights.b_to_a).items()):
            row = {**found, "data": name, "num_images": len(domains[place]), **facts}
            folder = config.run_dir or config.weights
            rows.append(record_evaluation(folder, row, scorer.extractor))
    return rows
