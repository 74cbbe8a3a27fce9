"""Statistics of whole data sets, cached; scores of saved samples."""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..metrics.cache import default_cache_dir
from ..metrics.features import FeatureExtractor
from ..metrics.inception_score import inception_score
from ..metrics.statistics import Statistics, collect, read_statistics, write_statistics
from ..runtime import distributed
from .batches import once
from .images import Images, fingerprint, normalize

logger = logging.getLogger(__name__)


def data_statistics(
    images: Images,
    extractor: FeatureExtractor,
    *,
    cache_dir: str | Path | None = None,
    num_images: int = 0,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
) -> Statistics:
    """Statistics of ``num_images`` of ``images`` (see `some`; 0: all), from the cache if possible.

    The cache (default `default_cache_dir`) is keyed by the content of the data, the number, the
    weights and the resizer. Several processes may fill it at once; every file in it is whole.
    """
    path = statistics_path(images, extractor, num_images, cache_dir)
    # All ranks must go the same way, or some would wait for the others in a reduction.
    if all(distributed.gather_objects(path.is_file())):
        try:
            return read_statistics(path)
        except ValueError as error:
            logger.warning("%s: making it again", error)
    batches = (batch.images for batch in once(images, batch_size, device=device, limit=num_images))
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


def read_samples(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels (N, 3, R, R), uint8, and labels (N,) of a ``samples.npz`` (``x``, ``y``)."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist; write it with: fqgan sample --npz ...")
    try:
        with np.load(path, allow_pickle=False) as content:
            pixels = content["x"]
            labels = content["y"] if "y" in content.files else None
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no samples under 'x' ({error})") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ValueError(
            f"{path}: 'x' is {pixels.dtype} {pixels.shape}, uint8 (N, 3, R, R) is needed"
        )
    return pixels, labels


def sample_batches(
    pixels: np.ndarray, batch_size: int, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """This rank's part of uint8 ``pixels`` (N, 3, R, R) as float batches in [-1, 1]."""
    share = pixels[distributed.rank() :: distributed.world_size()]
    for start in range(0, len(share), batch_size):
        yield normalize(torch.from_numpy(share[start : start + batch_size]).to(device))


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
    pixels, _ = read_samples(path)
    batches = sample_batches(pixels, batch_size, device)
    found = collect(extractor, batches, len(pixels), quantize=False)
    name = "TF_pool.npz" if extractor.name == "inception" else f"{extractor.name}_pool.npz"
    target = Path(pool_path) if pool_path else Path(path).with_name(name)
    if distributed.is_main():
        mean, covariance = found.moments.mean.numpy(), found.moments.covariance.numpy()
        np.savez(target, pool_mean=mean, pool_var=covariance)
    scores: dict[str, float | str] = {"protocol": extractor.protocol, "num_images": len(pixels)}
    if found.logits is not None:
        score = inception_score(found.logits.softmax(dim=1), splits)
        scores |= {"inception_score": score.mean, "inception_score_std": score.std}
    return scores
