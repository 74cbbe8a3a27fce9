"""What HANNA's agent is taught: where it erred before, and when it should have asked.

Imitation is retrospective: whether a request would have been right is judged when the episode is
over (Nguyen & Daumé III, EMNLP 2019, Sec. 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..environments.assistance import AssistanceObservation
from ..simulator.geometry import IntArray

LOST, UNCERTAIN_WRONG, ALREADY_ASKED = 0, 1, 2
REASONS = ("lost", "uncertain_wrong", "already_asked")
GO_ON, REQUEST = 0, 1
IGNORE = -1  # target where there is nothing to learn


class WrongTurns:
    """Which actions each of B agents has taken wrongly, by place and subgoal."""

    def __init__(self, batch: int) -> None:
        self._taken: list[dict[tuple[int, object], set[int]]] = [{} for _ in range(batch)]

    def mask(self, seen: AssistanceObservation) -> NDArray[np.bool_]:
        """(B, K) actions that lead where a wrong action from here has led before."""
        wrong = np.zeros(seen.scene.mask.shape, dtype=bool)
        for i, taken in enumerate(self._taken):
            led = taken.get((int(seen.scene.node[i]), seen.subgoals[i]))
            if led:
                wrong[i] = np.isin(seen.scene.target[i], list(led)) & seen.scene.mask[i]
        return wrong

    def note(self, seen: AssistanceObservation, action: IntArray, teacher: IntArray) -> None:
        """Remember ``action`` (B,) where it differs from ``teacher`` (B,); -1 teaches nothing."""
        for i in np.flatnonzero((teacher >= 0) & (action != teacher)):
            place = int(seen.scene.node[i]), seen.subgoals[i]
            led = int(seen.scene.target[i, action[i]])
            self._taken[i].setdefault(place, set()).add(led)


@dataclass(frozen=True)
class Moment:
    """One step of B agents, as far as the teacher of requests needs it."""

    node: IntArray  # (B,)
    distance: NDArray[np.float64]  # (B,) meters to the nearest target
    asked: NDArray[np.bool_]  # (B,)
    stopped: NDArray[np.bool_]  # (B,) departed or ended by the stop action
    ended: NDArray[np.bool_]  # (B,) before this step
    requestable: NDArray[np.bool_]  # (B,)
    uncertain: NDArray[np.bool_]  # (B,) high entropy
    wrong: NDArray[np.bool_]  # (B,) the likeliest action is not the teacher's


class AskLesson(NamedTuple):
    """Targets for T steps of B agents."""

    decision: IntArray  # (T, B) 1 = request help, 0 = go on, -1 = nothing to learn
    reasons: NDArray[np.float32]  # (T, B, 3) lost, uncertain and wrong, asked here already


def teach_requests(moments: Sequence[Moment], last: NDArray[np.float64]) -> AskLesson:
    """When help should have been requested, in the light of the whole episode.

    Args:
        moments: T steps.
        last: (B,) meters to the nearest target behind the last step.

    A request is right where the agent is lost or uncertain and wrong, unless it has asked at that
    place before. It is lost in every step behind the one of its segment that was nearest to the
    target; segments end with a request, a stop, or the episode.
    """
    steps, batch = len(moments), len(moments[0].node)
    node = np.stack([moment.node for moment in moments])  # (T, B)
    live = ~np.stack([moment.ended for moment in moments])
    able = live & np.stack([moment.requestable for moment in moments])
    asked = np.stack([moment.asked for moment in moments])
    cuts = asked | np.stack([moment.stopped for moment in moments])
    distance = np.stack([*(moment.distance for moment in moments), last])
    reasons = np.zeros((steps, batch, len(REASONS)), dtype=np.float32)
    for moment, row in zip(moments, reasons, strict=True):
        row[:, UNCERTAIN_WRONG] = moment.uncertain & moment.wrong
    for i in range(batch):
        count = int(live[:, i].sum())
        reasons[:count, i, LOST] = lost_steps(distance[: count + 1, i], cuts[:count, i])
        for t in range(count):
            reasons[t, i, ALREADY_ASKED] = node[t, i] in node[:t, i][asked[:t, i]]
    reasons[~able] = 0
    wanted = reasons[..., LOST] + reasons[..., UNCERTAIN_WRONG] > 0
    wanted &= reasons[..., ALREADY_ASKED] == 0
    return AskLesson(np.where(able, wanted.astype(np.int64), IGNORE), reasons)


def lost_steps(distance: NDArray[np.float64], cuts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of T steps come behind the nearest approach of their segment.

    Args:
        distance: (T + 1,) meters to the target of the step, the last one behind all steps.
        cuts: (T,) steps that end a segment.
    """
    lost = np.zeros(len(cuts), dtype=bool)
    begin = 0
    for end in [*(np.flatnonzero(cuts) + 1).tolist(), len(distance)]:
        if end > begin:
            nearest = begin + int(distance[begin:end].argmin())  # the first of equal ones
            lost[nearest + 1 : end] = True
        begin = end
    return lost
