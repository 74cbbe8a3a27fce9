"""Whether two agents that walked the same episodes differ: the paired bootstrap."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

AT_ONCE = 4_000_000  # drawn numbers that are held in memory


class Difference(NamedTuple):
    """The mean score of A less that of B."""

    a: float
    b: float
    difference: float
    low: float
    """Lower end of the interval."""
    high: float
    p: float
    """Two-sided: how often a sample of episodes has no difference or the opposite one."""


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    samples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Draw the episodes again and again, always both scores of an episode together.

    Args:
        a: (N,) scores of agent A.
        b: (N,) scores of agent B in the same episodes.
        groups: (N,) what is drawn as a whole, such as the path of three instructions, whose scores
            are alike; None draws episodes.
        samples: number of samples.
        confidence: of the interval, which is that of the percentiles.
        seed: of the draws.

    ``p`` is (1 + samples on the other side of 0 or at it) / (1 + samples), twice, at most 1.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if not len(first) or first.shape != second.shape:
        raise ValueError(f"{len(first)} and {len(second)} scores make no pairs")
    numbers = np.arange(len(first))
    if groups is not None:
        places: dict[Hashable, int] = {}
        numbers = np.array([places.setdefault(group, len(places)) for group in groups])
    count = int(numbers.max()) + 1
    sums = np.bincount(numbers, first - second, minlength=count)  # (G,)
    sizes = np.bincount(numbers, minlength=count)  # (G,)
    generator = np.random.default_rng(seed)
    drawn = np.empty(samples)
    step = max(1, AT_ONCE // count)
    for start in range(0, samples, step):
        index = generator.integers(count, size=(min(step, samples - start), count))
        drawn[start : start + len(index)] = sums[index].sum(axis=1) / sizes[index].sum(axis=1)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    against = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return Difference(
        a=float(first.mean()),
        b=float(second.mean()),
        difference=float((first - second).mean()),
        low=float(low),
        high=float(high),
        p=min(1.0, 2 * (1 + against) / (1 + samples)),
    )
