"""From a source of generated images to FID, KID, IS, precision and recall against a data set."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checks import at_least
from .data.datasets import DataConfig, build_images
from .data.images import Images
from .data.statistics import data_statistics
from .metrics.features import FeatureExtractor, FeatureName, build_extractor
from .metrics.moments import read_moments
from .metrics.statistics import collect, compare, compare_moments
from .runtime import distributed


@dataclass(frozen=True)
class FeatureOptions:
    """On which features images are compared."""

    features: FeatureName = "inception-torch"
    """inception-torch: BigGAN's protocol; inception: TensorFlow's; the others work offline."""
    weights: str = ""
    """File with the Inception weights, or folder with the SqueezeNet weights."""
    download: bool = False
    """Download the Inception weights where no file is given and none is in the cache."""
    batch_size: int = 64
    """Images in one pass."""
    cache_dir: str = ""
    """Where weights and statistics of data sets are kept; empty: $FQGAN_CACHE, ~/.cache/fqgan."""

    def __post_init__(self) -> None:
        at_least(self, "scoring", batch_size=1)


@dataclass(frozen=True)
class ScoringOptions(FeatureOptions):
    """How samples are scored. Figures of different ``features`` cannot be compared."""

    num_images: int = 50_000
    """Generated images that are scored."""
    real_images: int = 0
    """Images of the data set they are compared with, from the first on; 0 takes all."""
    splits: int = 10
    """Of the Inception score."""
    moments: str = ""
    """File of the data's moments (mu, sigma of the same features) in place of the data: no KID."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "scoring", num_images=1, splits=1)
        if self.num_images < 2 * self.splits:
            raise ValueError(
                f"--scoring.num-images {self.num_images} is too few for --scoring.splits "
                f"{self.splits}; give at least two images a split"
            )


def open_extractor(options: FeatureOptions, device: torch.device | str) -> FeatureExtractor:
    """The features of ``options``; raises ``FileNotFoundError`` or ``ValueError`` for weights."""
    return build_extractor(
        options.features,
        weights=options.weights,
        fetch=options.download,
        cache_dir=options.cache_dir or None,
        device=device,
    )


class Scorer:
    """Scores generators against one data set; its statistics are computed once.

    Args:
        options: see `ScoringOptions`.
        images: the data set; not looked at where ``options`` name a file of its moments.
        device: where features are computed.

    Raises:
        ValueError, FileNotFoundError: the weights of the features, or the moments, are missing or
            wrong.
    """

    def __init__(
        self, options: ScoringOptions, images: Images | None, device: torch.device | str = "cpu"
    ) -> None:
        self.options, self.images, self.device = options, images, torch.device(device)
        self.extractor = open_extractor(options, device)
        self.moments = read_moments(options.moments) if options.moments else None
        if self.moments is not None and len(self.moments.mean) != self.extractor.dim:
            raise ValueError(
                f"--scoring.moments {options.moments} is of {len(self.moments.mean)} features, "
                f"--scoring.features {options.features} has {self.extractor.dim}"
            )

    @property
    def num_real(self) -> int:
        """Images behind the statistics of the data; 0 where a file of moments does not say."""
        if self.moments is not None:
            return self.moments.num_images
        assert self.images is not None
        return min(self.options.real_images, len(self.images)) or len(self.images)

    def __call__(self, sample: Callable[[int], Tensor]) -> dict[str, float]:
        """Score ``options.num_images`` images of ``sample``.

        Args:
            sample: from a number B to (B, 3, R, R) in [-1, 1], this process's share.

        Returns:
            ``fid``, ``kid_x100``, ``kid_x100_std``, ``precision``, ``recall`` and, where the
            features have class probabilities, ``inception_score`` and its ``_std``; the same on
            every process. Against moments alone there is neither KID nor precision and recall.
        """
        options = self.options
        if self.moments is not None:
            batches = self._batches(sample)
            fake = collect(self.extractor, batches, options.num_images, max_features=0)
            return compare_moments(self.moments, fake, splits=options.splits)
        assert self.images is not None
        real = data_statistics(
            self.images,
            self.extractor,
            cache_dir=options.cache_dir or None,
            num_images=options.real_images,
            batch_size=options.batch_size,
            device=self.device,
        )
        fake = collect(self.extractor, self._batches(sample), options.num_images)
        # KID and precision need subsets no larger than either side.
        subset = min(1000, options.num_images, options.real_images or len(self.images))
        return compare(real, fake, splits=options.splits, subset_size=subset)

    def _batches(self, sample: Callable[[int], Tensor]) -> Iterator[Tensor]:
        share = -(-self.options.num_images // distributed.world_size())
        for _ in range(0, share, self.options.batch_size):
            yield sample(self.options.batch_size)


def open_scorer(options: ScoringOptions, data: DataConfig, device: torch.device) -> Scorer:
    """A scorer against ``data``, or against the moments that ``options`` name."""
    return Scorer(options, None if options.moments else build_images(data), device)


def record_evaluation(
    folder: str | Path, row: Mapping[str, Any], extractor: FeatureExtractor | None
) -> dict[str, Any]:
    """Add ``row``, with what its features are, if it has any, to ``evaluations.jsonl``."""
    row = dict(row)
    if extractor is not None:
        row |= {
            "features": extractor.name,
            "protocol": extractor.protocol,
            "comparable": extractor.comparable,
        }
    row["date"] = datetime.now(UTC).strftime("%Y-%m-%d")
    if distributed.is_main():
        with (Path(folder) / "evaluations.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
    return row
