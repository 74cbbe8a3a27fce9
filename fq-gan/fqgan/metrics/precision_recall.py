"""Improved precision and recall (Kynkaanniemi et al., NeurIPS 2019)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PrecisionRecall(NamedTuple):
    precision: float  # share of generated images that lie among the real ones
    recall: float  # share of real images that lie among the generated ones


class Coverage(NamedTuple):
    """How a manifold covers probes."""

    inside: Tensor  # (M,) bool, within the radius of at least one reference
    realism: Tensor  # (M,) squared radius of the nearest reference / squared distance to it
    nearest: Tensor  # (M,) int64, index of the nearest reference


def neighbour_radii(features: Tensor, k: int = 3, *, chunk: int = 4096) -> Tensor:
    """Distance of every vector of ``features`` (N, D) to its ``k``-th nearest neighbour: (N,)."""
    if len(features) <= k:
        raise ValueError(f"{k} neighbours need more than {k} images, got {len(features)}")
    radii = []
    for part in features.split(chunk):
        distances = torch.cdist(part, features)  # (n, N), each row holds the vector itself too
        radii.append(distances.kthvalue(k + 1, dim=1).values)
    return torch.cat(radii)


def cover(references: Tensor, radii: Tensor, probes: Tensor, *, chunk: int = 4096) -> Coverage:
    """Which of ``probes`` (M, D) lie in a ball around ``references`` (N, D) of ``radii`` (N,)."""
    inside, realism, nearest = [], [], []
    for part in probes.split(chunk):
        distances = torch.cdist(part, references)  # (m, N)
        inside.append((distances <= radii).any(dim=1))
        closest = distances.min(dim=1)
        nearest.append(closest.indices)
        realism.append((radii[closest.indices] / (closest.values + 1e-6)).square())
    return Coverage(torch.cat(inside), torch.cat(realism), torch.cat(nearest))


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    """Precision and recall of ``fake`` (M, D) against ``real`` (N, D), with ``k`` neighbours."""
    real, fake = real.float(), fake.float()
    precision = cover(real, neighbour_radii(real, k), fake).inside
    recall = cover(fake, neighbour_radii(fake, k), real).inside
    return PrecisionRecall(float(precision.double().mean()), float(recall.double().mean()))
