"""From features to a table of scores: what is kept of a set of images, and how two compare."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..runtime import distributed
from ..runtime.files import why, write_atomically
from .distances import (
    Moments,
    RunningMoments,
    expected_bias,
    frechet_distance,
    inception_score,
    kernel_distance,
    manifold_scores,
    moments,
    read_moments,
    sound_moments,
)
from .features import FeatureExtractor

logger = logging.getLogger(__name__)


class Statistics(NamedTuple):
    """What scores need of a set of images."""

    moments: Moments  # of all images
    features: Tensor  # (n, D) float32 of a random choice, for KID and manifolds; n 0: moments alone
    logits: Tensor | None  # (N, L) float32 of all images, where kept
    key: str  # `FeatureExtractor.key`; empty where a file of another program does not say


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
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Scores of ``fake`` against ``real``: those of training, of `evaluate` and of `score`.

    Args:
        real: of the reference.
        fake: of the images that are judged.
        splits: of the Inception score.
        subset_size, subsets, seed: see `kernel_distance`.
        device: where matrices are computed; every rank calls this with the same statistics.

    Returns:
        ``fid``; where the network classifies ``inception_score`` and ``inception_score_std`` (of
        ``fake``); where both have features ``kid_x100`` with ``_std`` (over subsets), ``_low`` and
        ``_high`` (95 % interval), ``precision``, ``recall``, ``density`` and ``coverage``.

    Raises:
        ValueError: they are of different features, or too few images.
    """
    if real.key and fake.key and real.key != fake.key:
        raise ValueError(
            f"statistics of {real.key} and of {fake.key} cannot be compared; "
            "score both with the same features"
        )
    scores = {"fid": frechet_distance(real.moments, fake.moments, device)}
    if fake.logits is not None:
        score = inception_score(fake.logits.softmax(dim=1), splits)
        scores |= {"inception_score": score.mean, "inception_score_std": score.std}
    if not (len(real.features) and len(fake.features)):
        return scores
    x, y = real.features.to(device), fake.features.to(device)
    kid = kernel_distance(x, y, subset_size=subset_size, subsets=subsets, seed=seed)
    names = ("kid_x100", "kid_x100_std", "kid_x100_low", "kid_x100_high")
    scores |= {name: 100 * value for name, value in zip(names, kid, strict=True)}
    return scores | manifold_scores(x, y)._asdict()


def warn_of_bias(
    real: Statistics,
    fake: Statistics,
    *,
    names: tuple[str, str],
    device: torch.device | str = "cpu",
) -> float | None:
    """Say, where images are fewer than features, what the FID would about be of equal sources.

    Args:
        real, fake: the two sets.
        names: what the message calls them.
        device: where it is computed.

    Returns:
        That number; None where there are images enough, or a file does not say how many.
    """
    counts, dim = (real.moments.num_images, fake.moments.num_images), len(real.moments.mean)
    few = [f"{name} has {n}" for name, n in zip(names, counts, strict=True) if 0 < n < dim]
    if not few:
        return None
    larger = max(real.moments, fake.moments, key=lambda one: one.num_images)
    known = [number or larger.num_images or dim for number in counts]
    bias = expected_bias(larger, known[0], known[1], device=device)
    logger.warning(
        "%s images, fewer than the %d features: two such sets of one source would have an FID of "
        "about %.3g, and more where covariances lack directions; compare only scores of equal "
        "numbers of images, or by KID, which has no bias",
        " and ".join(few), dim, bias,
    )  # fmt: skip
    return bias


def write_statistics(path: str | Path, content: Statistics) -> None:
    """Write one ``.npz``, whole or not at all.

    ``mu`` (D,) and ``sigma`` (D, D) in float64 are what clean-fid and pytorch-fid read, too;
    ``features``, ``logits``, ``num_images`` and ``key`` are for the other scores.
    """
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
        mean, covariance, features = (arrays[name] for name in ("mu", "sigma", "features"))
        count, key = int(arrays["num_images"]), str(arrays["key"])
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} holds no whole statistics ({why(error)}); move it away to have it made again"
        ) from error
    found = sound_moments(path, mean, covariance, count)
    logits = _rows(path, arrays["logits"], "logits") if "logits" in arrays else None
    return Statistics(found, _rows(path, features, "features", len(found.mean)), logits, key)


def _rows(path: str | Path, array: np.ndarray, name: str, width: int = 0) -> Tensor:
    """The ``array`` of a file as (N, ``width``) finite numbers, of any width where it is 0."""
    problem = "holds NaN, infinity or what float32 cannot hold"
    if array.dtype.kind not in "fiu" or array.ndim != 2 or (width and array.shape[1] != width):
        problem = f"is {array.dtype} {array.shape}, (N, {width or 'D'}) numbers are needed"
    else:
        with np.errstate(over="ignore"):
            rows = torch.from_numpy(array.astype(np.float32))
        if rows.isfinite().all():
            return rows
    raise ValueError(f"{path} holds no statistics of images: {name} {problem}; make it again")


LAYOUTS = ({"mu", "sigma"}, {"feats"})
"""Arrays of files of statistics: of pytorch-fid and clean-fid for FID, of clean-fid for KID."""


def read_any_statistics(path: str | Path) -> Statistics:
    """Read statistics of ours, or of pytorch-fid or clean-fid.

    ``mu`` and ``sigma`` (both programs) give moments alone; ``feats`` (N, D), clean-fid's file for
    KID, gives moments and features. Neither says which features they are.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of none of these layouts.
    """
    names = array_names(path)
    if "key" in names:
        return read_statistics(path)
    if "mu" in names:
        found = read_moments(path)
        return Statistics(found, torch.empty(0, len(found.mean)), None, "")
    if "feats" not in names:
        raise ValueError(f"{path} holds no statistics: neither mu and sigma nor feats")
    try:
        with np.load(path, allow_pickle=False) as content:
            array = content["feats"]
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no statistics ({why(error)}); make it again") from error
    features = _rows(path, array, "feats")
    if len(features) < 2 or not features.shape[1]:
        raise ValueError(f"{path}: feats is {tuple(features.shape)}, two rows or more are needed")
    return Statistics(moments(features), features, None, "")


def array_names(path: str | Path) -> set[str]:
    """The names of the arrays in an ``.npz``; none where it is no whole archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except zipfile.BadZipFile:
        return set()
