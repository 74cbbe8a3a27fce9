"""From generated images to FID, KID, IS, precision and recall against a data set, and its cache."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .data.batches import one_pass
from .data.datasets import DataConfig, build_images
from .data.images import Images, fingerprint
from .data.sets import read_samples
from .metrics.distances import inception_score, read_moments
from .metrics.features import FeatureExtractor, FeatureName, build_extractor
from .metrics.networks import default_cache_dir
from .metrics.statistics import (
    Statistics,
    collect,
    compare,
    read_statistics,
    warn_of_bias,
    write_statistics,
)
from .runtime import distributed
from .runtime.evaluation import versions
from .runtime.files import json_text
from .runtime.options import at_least

logger = logging.getLogger(__name__)

PUBLISHED_IMAGES = 50_000  # generated, behind every published FID and Inception score


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

    def unused(self) -> dict[str, str]:
        """Options that these features leave without a use, see `unused_options`."""
        unused: dict[str, str] = {}
        if self.features == "random":
            unused["--scoring.weights"] = (
                "--scoring.features random makes its own; drop it, or give other features"
            )
        if self.weights or not self.features.startswith("inception"):
            have = "weights names them" if self.weights else f"features {self.features} needs none"
            unused["--scoring.download"] = (
                f"it fetches Inception weights, --scoring.{have}; drop it"
            )
        return unused


@dataclass(frozen=True)
class ScoringOptions(FeatureOptions):
    """How samples are scored. Figures of different ``features`` cannot be compared."""

    num_images: int = PUBLISHED_IMAGES
    """Generated images that are scored."""
    real_images: int = 0
    """Images of the data set they are compared with, from the first on; 0 takes all."""
    splits: int = 10
    """Of the Inception score."""
    moments: str = ""
    """File of the data's moments (mu, sigma of the same features) in place of the data: no KID."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "scoring", num_images=1, real_images=0, splits=1)
        if self.num_images < 2 * self.splits:
            raise ValueError(
                f"--scoring.num-images {self.num_images} is too few for --scoring.splits "
                f"{self.splits}; give at least two images a split"
            )

    def unused(self) -> dict[str, str]:
        """Options that these features or moments leave without a use, see `unused_options`."""
        unused = super().unused()
        if self.moments:
            unused["--scoring.real-images"] = (
                f"--scoring.moments {self.moments} takes the place of the data; drop one of them"
            )
        return unused


def open_extractor(options: FeatureOptions, device: torch.device | str) -> FeatureExtractor:
    """The features of ``options``; raises ``FileNotFoundError`` or ``ValueError`` for weights."""
    return build_extractor(
        options.features,
        weights=options.weights,
        fetch=options.download,
        cache_dir=options.cache_dir or None,
        device=device,
        options=("--scoring.features", "--scoring.weights"),
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
        self._real: Statistics | None = None  # of the data set, from the first score on
        self._warned = False
        if self.moments is not None and len(self.moments.mean) != self.extractor.dim:
            raise ValueError(
                f"--scoring.moments {options.moments} is of {len(self.moments.mean)} features, "
                f"--scoring.features {options.features} has {self.extractor.dim}"
            )

    def require(self, metric: str) -> None:
        """Raise ``ValueError`` where the features give no score of the name ``metric``."""
        if metric == "inception_score" and not self.extractor.classifies:
            raise ValueError(
                f"--best-metric {metric} is not among the scores of --scoring.features "
                f"{self.options.features}, which do not classify; choose fid or other features"
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
            The scores of `compare`; the same on every process. Against moments alone there are
            neither KID nor what needs neighbours.
        """
        options = self.options
        real = self.real_statistics()
        fake = collect(self.extractor, self._batches(sample), options.num_images)
        if not self._warned:
            self._warned = True
            warn_of_bias(real, fake, names=("the data set", "the generator"), device=self.device)
        # KID and precision need subsets no larger than either side.
        subset = min(1000, options.num_images, self.num_real or 1000)
        return compare(real, fake, splits=options.splits, subset_size=subset, device=self.device)

    def real_statistics(self) -> Statistics:
        """Those of the data, or its moments alone; computed or read once."""
        if self._real is None and self.moments is not None:
            self._real = Statistics(self.moments, torch.empty(0, self.extractor.dim), None, "")
        if self._real is None:
            assert self.images is not None
            self._real = data_statistics(
                self.images,
                self.extractor,
                cache_dir=self.options.cache_dir or None,
                num_images=self.options.real_images,
                batch_size=self.options.batch_size,
                device=self.device,
            )
        return self._real

    def _batches(self, sample: Callable[[int], Tensor]) -> Iterator[Tensor]:
        share = -(-self.options.num_images // distributed.world_size())
        for _ in range(0, share, self.options.batch_size):
            yield sample(self.options.batch_size)


def open_scorer(options: ScoringOptions, data: DataConfig, device: torch.device) -> Scorer:
    """A scorer against ``data``, or against the moments that ``options`` name."""
    return Scorer(options, None if options.moments else build_images(data), device)


def too_few(extractor: FeatureExtractor, *num_images: int) -> str:
    """Why a FID of so many images on either side says little, empty if it does; 0 is unknown."""
    fewest = min((number for number in num_images if number), default=0)
    if not fewest or fewest > extractor.dim:
        return ""
    return (
        f"{fewest} images are too few for the {extractor.dim} features of {extractor.name}: their "
        "covariance is singular, and the FID depends on the number of images as much as on the "
        f"images; more than {extractor.dim} of either side are needed"
    )


def print_evaluation(result: Any) -> None:
    """Print what an evaluation found, on rank 0; its group of processes may be gone by now."""
    if os.environ.get("RANK", "0") == "0":
        print(json_text(result, indent=2))


def record_evaluation(
    folder: str | Path,
    row: Mapping[str, Any],
    extractor: FeatureExtractor | None,
    *,
    published: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Add ``row`` to ``evaluations.jsonl``, with what it depends on besides.

    Args:
        folder: where the file is.
        row: scores and their settings.
        extractor: the features, if the scores are of any.
        published: numbers of the row, such as ``num_images``, behind published figures; of
            fewer it is a trial, which does not compare with them. Nor does a FID of fewer
            images, or ``real_images``, than features; ``warning`` says so.
    """
    trial = any(row.get(name, least) < least for name, least in (published or {}).items())
    row = {**row, "trial": trial}
    if extractor is not None:
        sides = row.get("num_images", 0), row.get("real_images", 0)
        few = too_few(extractor, *sides) if any("fid" in name for name in row) else ""
        row |= {
            "features": extractor.name,
            "protocol": extractor.protocol,
            "comparable": extractor.comparable and not row["trial"] and not few,
        }
        row |= {"warning": few} if few else {}
    row |= {"date": datetime.now(UTC).strftime("%Y-%m-%d"), **versions()}
    if distributed.is_main():
        with (Path(folder) / "evaluations.jsonl").open("a") as file:
            file.write(json_text(row) + "\n")
    return row


def data_statistics(
    images: Images,
    extractor: FeatureExtractor,
    *,
    cache_dir: str | Path | None = None,
    num_images: int = 0,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> Statistics:
    """Statistics of a `fixed_choice` of ``num_images`` (0: all), from the cache if possible.

    The cache (default `default_cache_dir`) is keyed by every pixel of the data, the number, the
    weights and the resizer. Several processes may fill it at once; every file in it is whole.
    """
    path = statistics_path(images, extractor, num_images, cache_dir)
    # All ranks must go the same way, or some would wait for the others in a reduction.
    if all(distributed.gather_objects(path.is_file())):
        try:
            return read_statistics(path)
        except ValueError as error:
            logger.warning("%s: making it again", error)
    batches = (
        batch.images for batch in one_pass(images, batch_size, device=device, limit=num_images)
    )
    total = min(num_images, len(images)) or len(images)
    found = collect(extractor, batches, total, keep_logits=False)
    if distributed.is_main():
        write_statistics(path, found)
    return found


def statistics_path(
    images: Images, extractor: FeatureExtractor, num_images: int, cache_dir: str | Path | None
) -> Path:
    """Where the cache keeps the statistics of these images under this extractor."""
    key = f"{fingerprint(images)} {extractor.key} {num_images}"
    folder = Path(cache_dir) if cache_dir else default_cache_dir()
    return folder / "statistics" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"


def score_samples(
    path: str | Path,
    extractor: FeatureExtractor,
    *,
    batch_size: int = 500,
    splits: int = 10,
    device: torch.device | str = "cpu",
    pool_path: str | Path | None = None,
) -> dict[str, float | str]:
    """Inception score of a ``samples.npz``, as the authors' TensorFlow script gives it.

    With the "inception" features the protocol is the TensorFlow one: weights of 2015-12-05, logits
    without bias, batches of 500, 10 splits. The mean and covariance of the features are written to
    ``pool_path`` (default ``TF_pool.npz`` or ``NAME_pool.npz`` beside the samples) as
    ``pool_mean`` and ``pool_var``.
    """
    samples = read_samples(path)
    batches = (batch.images for batch in one_pass(samples, batch_size, device=device))
    found = collect(extractor, batches, len(samples), quantize=False)
    name = "TF_pool.npz" if extractor.name == "inception" else f"{extractor.name}_pool.npz"
    target = Path(pool_path) if pool_path else Path(path).with_name(name)
    if distributed.is_main():
        mean, covariance = found.moments.mean.numpy(), found.moments.covariance.numpy()
        np.savez(target, pool_mean=mean, pool_var=covariance)
    scores: dict[str, float | str] = {"protocol": extractor.protocol, "num_images": len(samples)}
    if found.logits is not None:
        score = inception_score(found.logits.softmax(dim=1), splits)
        scores |= {"inception_score": score.mean, "inception_score_std": score.std}
    return scores
