"""Scores of walks to an object: REVERIE (Qi et al., CVPR 2020), SOON (Zhu et al., CVPR 2021).

Distances are a callable of two viewpoints, in meters.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from .navigation import SUCCESS_RADIUS, Distance, trajectory_length

LEAST_LENGTH = 0.01  # meters; keeps SPL finite


def score_reverie(
    viewpoints: Sequence[str],
    reference: Sequence[str],
    goals: Collection[str],
    distance: Distance,
    *,
    chosen: str | None = None,
    wanted: str = "",
) -> dict[str, float]:
    """Score one walk as REVERIE's evaluation does.

    Args:
        viewpoints: the walk, rotations included.
        reference: the path of the data.
        goals: viewpoints from which the object is seen; a stop at one of them succeeds.
        distance: shortest-path length of two viewpoints of the scan.
        chosen: id of the object that the agent names, None if it names none.
        wanted: that of the object which is meant.

    Returns:
        ``success_rate``, ``oracle_rate``, ``spl``, ``rgs`` (the object is found, remote grounding
        success) and ``rgspl`` in [0, 1]; ``lengths`` and ``nav_error`` in meters; ``steps``. Paths
        are compared with the length of ``reference``, as there.
    """
    _check_start(viewpoints, reference)
    length = trajectory_length(viewpoints, distance)
    shortest = trajectory_length(reference, distance)
    share = shortest / max(length, shortest, LEAST_LENGTH)
    success, found = viewpoints[-1] in goals, chosen == wanted
    return {
        "nav_error": min(distance(viewpoints[-1], goal) for goal in goals),
        "steps": float(len(viewpoints) - 1),
        "lengths": length,
        "success_rate": float(success),
        "oracle_rate": float(any(viewpoint in goals for viewpoint in viewpoints)),
        "spl": success * share,
        "rgs": float(found),
        "rgspl": found * share,
    }


def score_soon(
    viewpoints: Sequence[str],
    reference: Sequence[str],
    targets: Mapping[str, Sequence[Sequence[float]]],
    distance: Distance,
    *,
    direction: Sequence[float] | None = None,
) -> dict[str, float]:
    """Score one walk as SOON's evaluation does.

    Args:
        viewpoints: the walk, rotations included.
        reference: the path of the data.
        targets: viewpoint -> (4, 2) heading and elevation in radians of the object's corners. Who
            stops at one of them has reached the goal, wherever ``reference`` ends.
        distance: shortest-path length of two viewpoints of the scan.
        direction: heading and elevation of the object as the agent says, as shares of a turn:
            heading / 2 pi and (elevation + pi) / 2 pi, the form of the result files.

    Returns:
        ``success_rate`` (within 3 m), ``oracle_rate``, ``spl``, ``found_rate`` (stopped where the
        object is seen and pointed into its corners; DUET's ``det_sr``) and ``found_spl`` (the
        leaderboard's SFPL) in [0, 1]; ``nav_error``, ``oracle_error``, ``lengths`` and
        ``goal_progress`` in meters; ``steps``.
    """
    _check_start(viewpoints, reference)
    last = viewpoints[-1]
    nearest = min(viewpoints, key=lambda viewpoint: distance(viewpoint, reference[-1]))
    goal = last if last in targets else reference[-1]
    length, shortest = trajectory_length(viewpoints, distance), distance(reference[0], goal)
    error, oracle_error = distance(last, goal), distance(nearest, goal)
    share = shortest / max(length, shortest, LEAST_LENGTH)
    success = error < SUCCESS_RADIUS
    found = direction is not None and last in targets and points_at(direction, targets[last])
    return {
        "nav_error": error,
        "oracle_error": oracle_error,
        "steps": float(len(viewpoints) - 1),
        "lengths": length,
        "goal_progress": distance(reference[0], goal) - error,
        "success_rate": float(success),
        "oracle_rate": float(oracle_error < SUCCESS_RADIUS),
        "spl": success * share,
        "found_rate": float(found),
        "found_spl": found * share,
    }


def points_at(direction: Sequence[float], corners: Sequence[Sequence[float]]) -> bool:
    """Whether ``direction`` (shares of a turn) lies between ``corners`` (4, 2) in radians.

    Deviation: headings are compared around the circle; the authors' polygons break where an object
    lies across heading 0.
    """
    turn = 2 * math.pi
    heading, elevation = direction[0] * turn, direction[1] * turn - math.pi
    first = (corners[0][0] - heading + math.pi) % turn - math.pi
    beside = [first + (one[0] - corners[0][0] + math.pi) % turn - math.pi for one in corners]
    above = [one[1] - elevation for one in corners]
    inside = False
    for i in range(len(corners)):  # cast a ray to the right of the direction, which is (0, 0)
        x, y, before_x, before_y = beside[i], above[i], beside[i - 1], above[i - 1]
        if (y > 0) != (before_y > 0) and x + (before_x - x) * y / (y - before_y) > 0:
            inside = not inside
    return inside


def mean_rows(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of scores that have the same names; raises ``ValueError`` for none."""
    if not rows:
        raise ValueError("there is no trajectory to score")
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _check_start(viewpoints: Sequence[str], reference: Sequence[str]) -> None:
    if not viewpoints or viewpoints[0] != reference[0]:
        begin = repr(viewpoints[0]) if viewpoints else "nowhere"
        raise ValueError(f"the trajectory begins at {begin}, its path at {reference[0]!r}")
