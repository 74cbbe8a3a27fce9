"""``fqgan evaluate``: score a run, a folder of weights, or a ``samples.npz``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..checks import positive
from ..data.datasets import DataConfig, data_name
from ..data.statistics import score_samples
from ..latents import Latents
from ..runtime import distributed
from ..runtime.command import parse
from ..scoring import ScoringOptions, open_extractor, open_scorer, record_evaluation
from ..weight_files import run_of, weights_of_run
from .options import BigganTrain, SampleStatistics
from .sampling import Sampler
from .weights import load_weights


@dataclass(frozen=True)
class EvaluateConfig:
    """Score one of: a run, a folder of weights, a samples.npz. A run brings its own settings."""

    run_dir: str = ""
    """Folder of a run."""
    best: bool = False
    """Of a run: the weights with the best score instead of the newest."""
    weights: str = ""
    """Folder of weights, from a run or from `fqgan convert`."""
    samples: str = ""
    """File of samples, from `fqgan sample --npz`; gives the Inception score and pool moments."""
    use_average: bool = True
    """Score the moving average of G; False scores G itself."""
    sample_statistics: SampleStatistics = "running"
    """Norm statistics of samples: of training, of their own batch, or newly collected ones."""
    standing_batches: int = 16
    """Batches behind "standing" statistics."""
    z_std: float = 1.0
    """Standard deviation of the noise."""
    seed: int = 0
    """Of noise and labels."""
    device: str = "auto"
    """auto, cpu or cuda."""
    data: DataConfig = field(default_factory=DataConfig)
    scoring: ScoringOptions = field(default_factory=ScoringOptions)

    def __post_init__(self) -> None:
        given = [name for name in ("run_dir", "weights", "samples") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError("give only one of --run-dir, --weights and --samples")
        positive(self, "", "z_std")


def main(argv: Sequence[str]) -> None:
    """Run ``fqgan evaluate --run-dir runs/demo``."""
    default = EvaluateConfig()
    run = run_of(BigganTrain, argv)
    if run is not None:
        default = EvaluateConfig(
            sample_statistics=run.sample_statistics,
            standing_batches=run.standing_batches,
            data=run.data,
            scoring=run.scoring,
        )
    result = evaluate(parse(EvaluateConfig, argv, "fqgan evaluate", default=default))
    if os.environ.get("RANK", "0") == "0":  # the group of processes is gone by now
        print(json.dumps(result, indent=2))


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score what ``config`` names and add a line to ``evaluations.jsonl`` beside it.

    Returns:
        The scores, and what they depend on: features and protocol, data, sample count, weights.
    """
    if not (config.run_dir or config.weights or config.samples):
        raise ValueError("nothing to score: give --run-dir, --weights or --samples")
    with distributed.start(config.device, seed=config.seed) as world:
        if not config.samples:
            return evaluate_weights(config, world.device)
        scoring = config.scoring
        extractor = open_extractor(scoring, world.device)
        scores = score_samples(
            config.samples, extractor, splits=scoring.splits, device=world.device
        )
        row = {**scores, "samples": config.samples}
        return record_evaluation(Path(config.samples).parent, row, extractor)


def evaluate_weights(config: EvaluateConfig, device: torch.device) -> dict[str, Any]:
    """Score the generator of a run or of a folder of weights against the data set."""
    scoring = config.scoring
    source = Path(config.weights or weights_of_run(config.run_dir, best=config.best))
    weights = load_weights(source, use_average=config.use_average, device=device)
    scorer = open_scorer(scoring, config.data, device)
    latents = Latents(
        weights.generator.latent_dim,
        weights.config.num_classes,
        seed=config.seed,
        std=config.z_std,
        device=device,
    )
    sampler = Sampler(
        weights.generator,
        latents,
        statistics=config.sample_statistics,
        standing_batches=config.standing_batches,
        batch_size=scoring.batch_size,
    )
    row = {
        **scorer(sampler),
        "weights": str(source),
        "step": weights.step,
        "data": data_name(config.data),
        "split": config.data.split,
        "num_images": scoring.num_images,
        "real_images": scorer.num_real,
        "sample_statistics": config.sample_statistics,
        "z_std": config.z_std,
        "seed": config.seed,
    }
    if scoring.moments:
        row["data"] = row["split"] = scoring.moments
    return record_evaluation(Path(config.run_dir or config.weights), row, scorer.extractor)
