"""Room-to-Room scores of a trajectory (Anderson et al., CVPR 2018) and their path-aware kin.

Distances are shortest-path lengths on the navigation graph in meters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np

Distance = Callable[[str, str], float]
SUCCESS_RADIUS = 3.0  # meters
R2R_NAMES = {
    "nav_error": "nav_error",
    "oracle_error": "oracle_error",
    "steps": "steps",
    "length": "lengths",
    "success": "success_rate",
    "oracle_success": "oracle_rate",
    "spl": "spl",
    "ndtw": "ndtw",
    "sdtw": "sdtw",
    "cls": "cls",
}


@dataclass(frozen=True)
class PathScores:
    """Scores of one trajectory; lengths and errors in meters."""

    nav_error: float  # from the last viewpoint to the goal
    oracle_error: float  # from the nearest viewpoint of the trajectory to the goal
    steps: int  # entries after the first, rotations included
    length: float
    shortest: float  # from start to goal
    success: bool
    oracle_success: bool
    spl: float
    ndtw: float
    sdtw: float
    cls: float


def trajectory_length(viewpoints: Sequence[str], distance: Distance) -> float:
    """Sum of the distances between consecutive viewpoints, in meters."""
    return float(sum(distance(a, b) for a, b in pairwise(viewpoints) if a != b))


def score_path(
    viewpoints: Sequence[str],
    reference: Sequence[str],
    distance: Distance,
    *,
    radius: float = SUCCESS_RADIUS,
    min_length: float = 0.01,
) -> PathScores:
    """Score a trajectory against its reference path.

    Args:
        viewpoints: one id an entry; rotations repeat the id.
        reference: viewpoints from start to goal.
        distance: shortest-path length of two viewpoints of the scan.
        radius: success is an error below this (strictly).
        min_length: keeps SPL finite where start and goal coincide (0 as in the older evaluator).

    Raises:
        ValueError: the trajectory is empty or does not begin where the reference does.
    """
    if not viewpoints or viewpoints[0] != reference[0]:
        begin = repr(viewpoints[0]) if viewpoints else "nowhere"
        raise ValueError(f"the trajectory begins at {begin}, its path at {reference[0]!r}")
    goal = reference[-1]
    errors = [distance(viewpoint, goal) for viewpoint in viewpoints]
    length = trajectory_length(viewpoints, distance)
    shortest = distance(reference[0], goal)
    success = errors[-1] < radius
    ndtw = normalized_dtw(viewpoints, reference, distance, radius=radius)
    return PathScores(
        nav_error=errors[-1],
        oracle_error=min(errors),
        steps=len(viewpoints) - 1,
        length=length,
        shortest=shortest,
        success=success,
        oracle_success=min(errors) < radius,
        spl=success * shortest / max(shortest, length, min_length or math.ulp(0.0)),
        ndtw=ndtw,
        sdtw=success * ndtw,
        cls=coverage_length_score(viewpoints, reference, distance, radius=radius),
    )


def without_repeats(viewpoints: Sequence[str]) -> list[str]:
    """``viewpoints`` with runs of one id (rotations) reduced to one entry."""
    return [v for i, v in enumerate(viewpoints) if i == 0 or v != viewpoints[i - 1]]


def normalized_dtw(
    viewpoints: Sequence[str],
    reference: Sequence[str],
    distance: Distance,
    *,
    radius: float = SUCCESS_RADIUS,
) -> float:
    """nDTW in [0, 1]: exp(-DTW / (|R| radius)) (Ilharco et al., 2019); rotations do not count."""
    path = without_repeats(viewpoints)
    cost = np.array([[distance(p, r) for r in reference] for p in path])
    total = np.full((len(path) + 1, len(reference) + 1), np.inf)
    total[0, 0] = 0.0
    for i in range(len(path)):
        for j in range(len(reference)):
            best = min(total[i, j], total[i, j + 1], total[i + 1, j])
            total[i + 1, j + 1] = cost[i, j] + best
    return float(np.exp(-total[-1, -1] / (len(reference) * radius)))


def coverage_length_score(
    viewpoints: Sequence[str],
    reference: Sequence[str],
    distance: Distance,
    *,
    radius: float = SUCCESS_RADIUS,
) -> float:
    """CLS in [0, 1]: path coverage times length score (Jain et al., ACL 2019)."""
    nearest = [min(distance(r, p) for p in set(viewpoints)) for r in reference]
    coverage = float(np.mean(np.exp(-np.array(nearest) / radius)))
    expected = coverage * trajectory_length(reference, distance)
    difference = abs(expected - trajectory_length(viewpoints, distance))
    if expected + difference == 0:
        return coverage
    return coverage * expected / (expected + difference)


def mean_scores(
    scores: Iterable[PathScores], names: Mapping[str, str] = R2R_NAMES
) -> dict[str, float]:
    """Means over trajectories under the field's names; raises ``ValueError`` for none."""
    rows = [asdict(score) for score in scores]
    if not rows:
        raise ValueError("there is no trajectory to score")
    return {name: float(np.mean([row[key] for row in rows])) for key, name in names.items()}
