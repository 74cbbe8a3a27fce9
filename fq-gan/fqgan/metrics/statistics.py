"""From features to a table of scores: what is kept of a set of images, and how two compare."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..runtime import distributed
from ..runtime.files import write_atomically
from .distances import (
    Moments,
    RunningMoments,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from .features import FeatureExtractor


class Statistics(NamedTuple):
    """What scores need of a set of images."""

    moments: Moments  # of all images
    features: Tensor  # (n, D) float32 of a random choice, for KID, precision and recall
    logits: Tensor | None  # (N, L) float32 of all images, where kept
    key: str  # `FeatureExtractor.key`


def collect(
    extractor: FeatureExtractor,
    batches: Iterable[Tensor],
    num_images: int,
    *,
    quantize: bool = True,
    max_features: int = 10_000,
    keep_logits: bool = True,
) -> Statistics:
    """Run ``extractor`` over images until ``num_images`` of all ranks together are seen.

    Args:
        extractor: on the device of the images.
        batches: this rank's images (B, 3, H, W) in [-1, 1]; may be endless. Every rank must
            bring the same number of batches of the same size, but for the last one.
        num_images: how many to score; a protocol that keeps the surplus of the last batch does
            so, the others cut it off. 0 takes what comes.
        quantize: round images to 256 levels first, as if they were saved and read.
        max_features: feature vectors kept for KID, precision and recall, a random choice (the
            first ones where ``num_images`` is 0).
        keep_logits: False saves their memory where no Inception score is wanted.

    Returns:
        The same on every rank.
    """
    running: RunningMoments | None = None
    kept, logits, seen = [], [], 0
    share = _share(num_images)
    chosen = _chosen_rows(share, _share(max_features) or 0)
    for images in batches:
        if share is not None and not extractor.keeps_surplus:
            images = images[: share - seen]
        if quantize:
            images = ((images.float() + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
        output = extractor(images)
        if running is None:
            running = RunningMoments(extractor.dim, output.pool.device)
        running.add(output.pool)
        rows = chosen[seen : seen + len(images)]
        kept.append(output.pool.cpu()[: len(rows)][rows])
        if keep_logits and output.logits is not None:
            logits.append(output.logits.cpu())
        seen += len(images)
        if share is not None and seen >= share:
            break
    if share is not None and seen < share:
        raise ValueError(f"{seen} images came where {share} were to be scored; lower the number")
    if running is None:
        running = RunningMoments(extractor.dim)
    all_logits = _gather(logits, 0) if logits else None
    return Statistics(running.result(), _gather(kept, extractor.dim), all_logits, extractor.key)


def _chosen_rows(total: int | None, wanted: int) -> Tensor:
    """Which of ``total`` images are kept: a fixed random choice, as data may be sorted by class."""
    if total is None:
        return torch.ones(wanted, dtype=torch.bool)
    chosen = torch.zeros(total, dtype=torch.bool)
    chosen[torch.randperm(total, generator=torch.Generator().manual_seed(0))[:wanted]] = True
    return chosen


def _share(num_images: int) -> int | None:
    """This rank's part of ``num_images``; None takes whatever comes."""
    if num_images == 0:
        return None
    size = distributed.world_size()
    return num_images // size + (distributed.rank() < num_images % size)


def _gather(parts: list[Tensor], width: int) -> Tensor:
    """Rows of all ranks, in rank order."""
    own = torch.cat(parts) if parts else torch.empty(0, width)
    return torch.cat(distributed.gather_objects(own))


def compare(
    real: Statistics,
    fake: Statistics,
    *,
    splits: int = 10,
    subset_size: int = 1000,
    subsets: int = 100,
    seed: int = 0,
) -> dict[str, float]:
    """Scores of ``fake`` against ``real``.

    Returns:
        ``fid``, ``kid_x100`` and ``kid_x100_std``, ``precision``, ``recall``, and, where the
        network classifies, ``inception_score`` and ``inception_score_std`` (of ``fake``).
    """
    if real.key != fake.key:
        raise ValueError(
            f"statistics of {real.key} and of {fake.key} cannot be compared; "
            "score both with the same features"
        )
    kid = kernel_distance(
        real.features, fake.features, subset_size=subset_size, subsets=subsets, seed=seed
    )
    manifolds = precision_recall(real.features, fake.features)
    return compare_moments(real.moments, fake, splits=splits) | {
        "kid_x100": 100 * kid.mean,
        "kid_x100_std": 100 * kid.std,
        "precision": manifolds.precision,
        "recall": manifolds.recall,
    }


def compare_moments(real: Moments, fake: Statistics, *, splits: int = 10) -> dict[str, float]:
    """What the moments of the data suffice for: ``fid``, and the Inception score of ``fake``."""
    scores = {"fid": frechet_distance(real, fake.moments)}
    if fake.logits is not None:
        score = inception_score(fake.logits.softmax(dim=1), splits)
        scores |= {"inception_score": score.mean, "inception_score_std": score.std}
    return scores


def write_statistics(path: str | Path, content: Statistics) -> None:
    """Write one ``.npz`` (``mu``, ``sigma``, ``features``, ...), whole or not at all."""
    arrays: dict[str, Any] = {
        "mu": content.moments.mean.numpy(),
        "sigma": content.moments.covariance.numpy(),
        "num_images": np.int64(content.moments.num_images),
        "features": content.features.numpy(),
        "key": np.array(content.key),
    }
    if content.logits is not None:
        arrays["logits"] = content.logits.numpy().astype(np.float32)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def read_statistics(path: str | Path) -> Statistics:
    """Read a file of `write_statistics`; raises ``ValueError`` where it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        moments = Moments(
            torch.from_numpy(arrays["mu"]),
            torch.from_numpy(arrays["sigma"]),
            int(arrays["num_images"]),
        )
        logits = torch.from_numpy(arrays["logits"]) if "logits" in arrays else None
        features, key = torch.from_numpy(arrays["features"]), str(arrays["key"])
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no whole statistics ({error}); delete it") from error
    return Statistics(moments, features, logits, key)
