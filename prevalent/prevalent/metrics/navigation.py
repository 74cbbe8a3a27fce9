"""Scores of trajectories: Room-to-Room (Anderson et al., CVPR 2018), CVDN, HANNA.

Distances are a callable of two viewpoints, in meters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

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


PathType = Literal["planner_path", "player_path", "trusted_path"]


@dataclass(frozen=True)
class NDHScores:
    """Scores of one trajectory; lengths and errors in meters."""

    length: float
    nav_error: float
    oracle_error: float
    oracle_plan_error: float  # nearest approach to the end of the oracle's plan
    shortest: float
    goal_progress: float

    @property
    def success(self) -> bool:
        return self.nav_error < SUCCESS_RADIUS

    @property
    def spl(self) -> float:
        if not self.success:
            return 0.0
        if self.shortest > 0:
            return self.shortest / max(self.length, self.shortest)
        return float(self.length == 0)


def trusted_path(item: Mapping[str, Sequence[str]]) -> PathType:
    """The human's path where it reaches the end of the oracle's plan, else the plan ("Mixed")."""
    reached = item["planner_path"][-1] in item["player_path"][1:]
    return "player_path" if reached else "planner_path"


def reference_path(item: Mapping[str, Sequence[str]], path_type: PathType) -> list[str]:
    """The path that a setting of NDH calls right: planner, player or trusted (Mixed)."""
    return list(item[trusted_path(item) if path_type == "trusted_path" else path_type])


def score_ndh(
    viewpoints: Sequence[str],
    item: Mapping[str, Sequence[str]],
    distance: Distance,
    path_type: PathType = "trusted_path",
) -> NDHScores:
    """Score a trajectory of the NDH item ``item`` (keys of the official files).

    Raises:
        ValueError: the trajectory does not begin at the path's start.
    """
    path = reference_path(item, path_type)
    if not viewpoints or viewpoints[0] != path[0]:
        begin = repr(viewpoints[0]) if viewpoints else "nowhere"
        raise ValueError(f"the trajectory begins at {begin}, its path at {path[0]!r}")
    ends = item["end_panos"]
    plan_end = item["planner_path"][-1]
    before = min(distance(viewpoints[0], end) for end in ends)
    after = min(distance(viewpoints[-1], end) for end in ends)
    return NDHScores(
        length=trajectory_length(viewpoints, distance),
        nav_error=distance(viewpoints[-1], path[-1]),
        oracle_error=min(distance(v, path[-1]) for v in viewpoints),
        oracle_plan_error=min(distance(v, plan_end) for v in viewpoints),
        shortest=distance(path[0], path[-1]),
        goal_progress=before - after,
    )


def mean_ndh_scores(scores: Iterable[NDHScores]) -> dict[str, float]:
    """Means under the names of the CVDN code; ``dist_to_end_reduction`` is goal progress in meters.

    ``sc_dr`` counts the progress of successful trajectories only, over all trajectories.
    """
    rows = list(scores)
    if not rows:
        raise ValueError("there is no trajectory to score")
    success = np.array([row.success for row in rows], dtype=float)
    progress = np.array([row.goal_progress for row in rows])
    return {
        "length": float(np.mean([row.length for row in rows])),
        "nav_error": float(np.mean([row.nav_error for row in rows])),
        "oracle success_rate": float(np.mean([row.oracle_error < SUCCESS_RADIUS for row in rows])),
        "success_rate": float(success.mean()),
        "spl": float(np.mean([row.spl for row in rows])),
        "oracle path_success_rate": float(
            np.mean([row.oracle_plan_error < SUCCESS_RADIUS for row in rows])
        ),
        "dist_to_end_reduction": float(progress.mean()),
        "sc_dr": float((progress * success).mean()),
    }


HANNA_SUCCESS_RADIUS = 2.0  # meters, inclusive


@dataclass(frozen=True)
class HannaScores:
    """Scores of one episode; lengths and errors in meters."""

    error: float
    oracle_error: float  # nearest approach to any goal
    steps: int
    length: float
    oracle_length: float  # travelled up to the nearest approach
    optimal_length: float  # from the start to the goal nearest to the final viewpoint
    target_errors: tuple[float, ...]  # at the end of each subtask that ANNA gave
    num_requests: int

    @property
    def success(self) -> bool:
        return self.error <= HANNA_SUCCESS_RADIUS

    @property
    def oracle_success(self) -> bool:
        return self.oracle_error <= HANNA_SUCCESS_RADIUS


def score_hanna(result: Mapping[str, Any], goals: Sequence[str], distance: Distance) -> HannaScores:
    """Score one HANNA result.

    Args:
        result: ``agent_pose`` and, of agents that ask, ``agent_ask``, ``agent_nav`` and
            ``target_viewpoints``.
        goals: the goal viewpoints; of two equally near the later one counts.
        distance: shortest-path length of two viewpoints of the scan.
    """
    viewpoints = [pose[0] for pose in result["agent_pose"]]
    final = [distance(viewpoints[-1], goal) for goal in goals]
    nearest_goal = goals[len(goals) - 1 - int(np.argmin(final[::-1]))]
    moves = [distance(a, b) if a != b else 0.0 for a, b in pairwise(viewpoints)]
    approach = np.array([[distance(viewpoint, goal) for viewpoint in viewpoints] for goal in goals])
    closest = int(approach.argmin()) % len(viewpoints)  # of equal ones the first goal, then visit
    closest = viewpoints.index(viewpoints[closest])
    asks = list(result.get("agent_ask", ()))
    return HannaScores(
        error=min(final),
        oracle_error=float(approach.min()),
        steps=len(viewpoints) - 1,
        length=float(sum(moves)),
        oracle_length=float(sum(moves[:closest])),
        optimal_length=distance(viewpoints[0], nearest_goal),
        target_errors=tuple(_subtask_errors(viewpoints, result, distance)),
        num_requests=asks.count(1),
    )


def _subtask_errors(
    viewpoints: Sequence[str], result: Mapping[str, Any], distance: Distance
) -> Iterable[float]:
    """Error where each subtask ends: by a departure, by the next request, or with the episode.

    As in the authors' code a request ends it where the new route begins.
    """
    asks, targets = list(result.get("agent_ask", ())), result.get("target_viewpoints", ())
    actions = result.get("agent_nav", ())
    asked = False
    for step, (ask, action) in enumerate(zip(asks, actions, strict=bool(asks))):
        if asked and action <= 0:
            yield distance(viewpoints[step + 1], targets[step][0])
            asked = False
        asked |= ask == 1
    if asked:
        yield distance(viewpoints[-1], targets[-1][0])


def mean_hanna_scores(
    scores: Iterable[HannaScores], *, oracle_spl_by_success: bool = True
) -> dict[str, float]:
    """Means under HANNA's names; ``target_success_rate`` is -1 where nobody asked.

    Args:
        scores: one entry an episode.
        oracle_spl_by_success: weight the oracle SPL by final success, as the authors' code does;
            False weights it by oracle success.
    """
    rows = list(scores)
    if not rows:
        raise ValueError("there is no episode to score")

    def weighted(success: bool, optimal: float, travelled: float) -> float:
        longest = max(optimal, travelled)
        return float(success) if longest == 0 else float(success) * optimal / longest

    oracle = [row.success if oracle_spl_by_success else row.oracle_success for row in rows]
    targets = [error for row in rows for error in row.target_errors]
    return {
        "error": float(np.mean([row.error for row in rows])),
        "oracle_error": float(np.mean([row.oracle_error for row in rows])),
        "steps": float(np.mean([row.steps for row in rows])),
        "length": float(np.mean([row.length for row in rows])),
        "success_rate": float(np.mean([row.success for row in rows])),
        "spl": float(np.mean([weighted(r.success, r.optimal_length, r.length) for r in rows])),
        "oracle_success_rate": float(np.mean([row.oracle_success for row in rows])),
        "oracle_spl": float(
            np.mean(
                [
                    weighted(success, row.optimal_length, row.oracle_length)
                    for success, row in zip(oracle, rows, strict=True)
                ]
            )
        ),
        "target_success_rate": (
            float(np.mean(np.array(targets) <= HANNA_SUCCESS_RADIUS)) if targets else -1.0
        ),
        "queries_per_ep": float(np.mean([row.num_requests for row in rows])),
    }


def mean_request_scores(results: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """How agents erred and asked, from results that hold what their teachers said.

    Returns:
        repeat_nav: share of wrong actions that were wrong at that place under that instruction
        before; repeat_ask: share of requests at places where help was requested before; agent_ask
        and teacher_ask: share of decisions to request; ask_accuracy, ask_precision, ask_recall of
        the agent's decisions. Shares of nothing are left out, as are teachers that are missing.
        The definitions are ours, after the names in the authors' logs.
    """
    wrong, asked = [], []  # whether each was a repetition
    agent, teacher = [], []  # decisions, 1 = request
    for result in results:
        viewpoints = [pose[0] for pose in result["agent_pose"]]
        mistakes, places = set(), set()
        texts, asks = result.get("instruction", ()), result.get("agent_ask", ())
        for step, wanted in enumerate(result.get("teacher_nav", ())):
            if wanted >= 0 and result["agent_nav"][step] != wanted:
                mistake = (viewpoints[step], viewpoints[step + 1], texts[step])
                wrong.append(mistake in mistakes)
                mistakes.add(mistake)
        for step, ask in enumerate(asks):
            if ask == 1:
                asked.append(viewpoints[step] in places)
                places.add(viewpoints[step])
        pairs = [
            pair for pair in zip(asks, result.get("teacher_ask", ()), strict=False) if pair[1] >= 0
        ]
        agent += [ask == 1 for ask, _ in pairs]
        teacher += [wanted == 1 for _, wanted in pairs]
    right = [ours == theirs for ours, theirs in zip(agent, teacher, strict=True)]
    shares = {
        "repeat_nav": wrong,
        "repeat_ask": asked,
        "agent_ask": agent,
        "teacher_ask": teacher,
        "ask_accuracy": right,
        "ask_precision": [good for good, ours in zip(right, agent, strict=True) if ours],
        "ask_recall": [good for good, theirs in zip(right, teacher, strict=True) if theirs],
    }
    return {name: float(np.mean(values)) for name, values in shares.items() if values}
