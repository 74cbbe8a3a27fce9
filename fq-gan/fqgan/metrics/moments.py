"""Mean and covariance of features, accumulated in float64 and merged across ranks."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..runtime import distributed
from ..runtime.files import write_atomically


class Moments(NamedTuple):
    """First two moments of N feature vectors."""

    mean: Tensor  # (D,), float64
    covariance: Tensor  # (D, D), float64, divided by N - 1
    num_images: int  # N; 0 where a file does not say


class RunningMoments:
    """Moments of vectors that arrive in batches (Chan, Golub and LeVeque, 1983).

    Args:
        dim: D.
        device: where the sums live.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        self._count = 0
        self._mean = torch.zeros(dim, dtype=torch.float64, device=device)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    def add(self, features: Tensor) -> None:
        """Take in ``features`` (B, D)."""
        batch = features.detach().to(self._mean)
        if len(batch) == 0:
            return
        mean = batch.mean(0)
        centred = batch - mean
        gap = mean - self._mean
        total = self._count + len(batch)
        self._scatter += centred.T @ centred
        self._scatter += torch.outer(gap, gap) * (self._count * len(batch) / total)
        self._mean += gap * (len(batch) / total)
        self._count = total

    def result(self) -> Moments:
        """Moments of what all ranks took in; every rank gets the same."""
        count = torch.tensor(float(self._count), dtype=torch.float64, device=self._mean.device)
        total = distributed.reduce_sum(count.clone())
        if total < 2:
            raise ValueError(f"a covariance needs at least 2 images, got {int(total)}")
        mean = distributed.reduce_sum(self._mean * count) / total
        gap = self._mean - mean
        scatter = distributed.reduce_sum(self._scatter + torch.outer(gap, gap) * count)
        return Moments(mean.cpu(), (scatter / (total - 1)).cpu(), int(total))


def moments(features: Tensor) -> Moments:
    """Moments of ``features`` (N, D) of this process alone."""
    double = features.double()
    mean = double.mean(0)
    centred = double - mean
    return Moments(mean.cpu(), (centred.T @ centred / (len(double) - 1)).cpu(), len(double))


def write_moments(path: str | Path, content: Moments) -> None:
    """Write ``mu``, ``sigma`` and ``num_images``, atomically; the authors read two of them."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        mu=content.mean.numpy(),
        sigma=content.covariance.numpy(),
        num_images=np.int64(content.num_images),
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def read_moments(path: str | Path) -> Moments:
    """Read a file of `write_moments` or the authors' ``{dataset}_inception_moments.npz``."""
    try:
        with np.load(path, allow_pickle=False) as content:
            mean = torch.from_numpy(content["mu"].astype(np.float64))
            covariance = torch.from_numpy(content["sigma"].astype(np.float64))
            count = int(content["num_images"]) if "num_images" in content.files else 0
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing; make it with fqgan prepare moments") from None
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no moments ({error}); delete it") from error
    if mean.dim() != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(
            f"{path} holds no moments: mu {tuple(mean.shape)}, sigma {tuple(covariance.shape)}"
        )
    return Moments(mean, covariance, count)


def author_moments_name(dataset: str) -> str:
    """The authors' file name for a data set name such as "I64_hdf5"."""
    return f"{dataset.removesuffix('_hdf5')}_inception_moments.npz"
