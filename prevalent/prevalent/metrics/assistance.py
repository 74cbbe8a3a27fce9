"""Scores of HANNA, navigation with natural-language assistance (Nguyen & Daumé III, EMNLP 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .navigation import Distance

SUCCESS_RADIUS = 2.0  # meters, inclusive


@dataclass(frozen=True)
class AssistanceScores:
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
        return self.error <= SUCCESS_RADIUS

    @property
    def oracle_success(self) -> bool:
        return self.oracle_error <= SUCCESS_RADIUS


def score_assistance(
    result: Mapping[str, Any], goals: Sequence[str], distance: Distance
) -> AssistanceScores:
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
    return AssistanceScores(
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


def mean_assistance_scores(
    scores: Iterable[AssistanceScores], *, oracle_spl_by_success: bool = True
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
            float(np.mean(np.array(targets) <= SUCCESS_RADIUS)) if targets else -1.0
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
