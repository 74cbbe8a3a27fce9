"""Inception score (Salimans et al., NeurIPS 2016)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class InceptionScore(NamedTuple):
    mean: float
    std: float  # over the splits


def inception_score(probabilities: Tensor, splits: int = 10) -> InceptionScore:
    """exp(E_x KL(p(y|x) || p(y))) of ``probabilities`` (N, L), per contiguous split.

    The N mod ``splits`` last images are dropped, as in every published implementation.
    """
    size = len(probabilities) // splits
    if size < 1:
        raise ValueError(f"{len(probabilities)} images cannot be cut into {splits} splits")
    parts = probabilities[: size * splits].double().view(splits, size, -1)
    marginal = parts.mean(dim=1, keepdim=True)
    # xlogy: a probability that underflowed to 0 adds 0, not NaN.
    divergence = (torch.xlogy(parts, parts) - torch.xlogy(parts, marginal)).sum(dim=2)
    scores = divergence.mean(dim=1).exp()
    return InceptionScore(float(scores.mean()), float(scores.std(correction=0)))
