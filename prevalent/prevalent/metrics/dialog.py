"""Scores of Navigation from Dialog History (Thomason et al., CoRL 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .navigation import SUCCESS_RADIUS, Distance, trajectory_length

PathType = Literal["planner_path", "player_path", "trusted_path"]


@dataclass(frozen=True)
class DialogScores:
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


def score_dialog(
    viewpoints: Sequence[str],
    item: Mapping[str, Sequence[str]],
    distance: Distance,
    path_type: PathType = "trusted_path",
) -> DialogScores:
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
    return DialogScores(
        length=trajectory_length(viewpoints, distance),
        nav_error=distance(viewpoints[-1], path[-1]),
        oracle_error=min(distance(v, path[-1]) for v in viewpoints),
        oracle_plan_error=min(distance(v, plan_end) for v in viewpoints),
        shortest=distance(path[0], path[-1]),
        goal_progress=before - after,
    )


def mean_dialog_scores(scores: Iterable[DialogScores]) -> dict[str, float]:
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
