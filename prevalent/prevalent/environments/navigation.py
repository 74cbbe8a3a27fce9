"""Room-to-Room with panoramic actions, as in EnvDrop (Tan et al., NAACL 2019).

Observations are arrays over the batch; image features stay where they are and are addressed by
row, so that they can be gathered on the device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..simulator.candidates import Candidates, candidates_of
from ..simulator.geometry import (
    NUM_HEADINGS,
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    VIEW_STEP,
    Camera,
    FloatArray,
    IntArray,
    angle_features,
)
from ..simulator.graph import Graphs
from .walk import Pose, Task, Walk

POSES = angle_features(VIEW_HEADINGS, VIEW_ELEVATIONS, 4)
"""Encoded heading and elevation of every view, (36, 4)."""


@dataclass(frozen=True)
class Observation:
    """What B agents see. K is the largest number of candidates plus STOP.

    Angles are encoded as (sin h, cos h, sin e, cos e); models repeat them to the width they want.
    """

    node: IntArray  # (B,)
    view: IntArray  # (B,) 0..35
    heading: FloatArray  # (B,) radians
    elevation: FloatArray  # (B,) radians
    row: IntArray  # (B,) row in the feature table, -1 without one
    pose: NDArray[np.float32]  # (B, 4) the agent's heading and elevation, encoded
    count: IntArray  # (B,) candidates; STOP is the index after them
    mask: NDArray[np.bool_]  # (B, K) True for candidates and STOP
    target: IntArray  # (B, K) node, -1 for STOP and padding
    candidate_view: IntArray  # (B, K) view that shows the candidate, -1 for STOP and padding
    candidate_angle: NDArray[np.float32]  # (B, K, 4) encoded, zeros for STOP and padding
    teacher: IntArray  # (B,) index of the candidate on the shortest path, STOP at the goal
    distance: FloatArray  # (B,) meters to the goal

    def pick(self, rows: IntArray) -> "Observation":
        """What the agents ``rows`` see; K is cut to the largest of theirs."""
        if len(rows) == len(self.node):
            return self
        most = int(self.count[rows].max(initial=0)) + 1
        wide = ("mask", "target", "candidate_view", "candidate_angle")
        parts = {field.name: getattr(self, field.name)[rows] for field in fields(self)}
        return Observation(
            **{name: part[:, :most] if name in wide else part for name, part in parts.items()}
        )


class CandidateDetails(NamedTuple):
    """Candidates of one agent, for display and for the dictionary form."""

    target: IntArray  # (n,)
    view: IntArray  # (n,)
    slot: IntArray  # (n,) index in the simulator's navigable list in that view
    heading: FloatArray  # (n,) radians relative to the agent's heading
    elevation: FloatArray  # (n,) radians, absolute
    absolute_heading: FloatArray  # (n,) radians
    distance: FloatArray  # (n,) angle to the axis of the view


class NavigationEnvironment(Walk):
    """B agents that choose among the neighbors of their viewpoint or stop.

    Args:
        graphs: the scans.
        feature_rows: row of every ``scan_viewpoint`` in a feature table; None without features.
        camera: decides which view shows a candidate.

    As in the original, a candidate's heading is relative to the agent's and its elevation is
    absolute, candidates stand in the order of their first sighting in the sweep over the 36 views,
    and an agent that has moved faces the direction it went.
    """

    def __init__(
        self,
        graphs: Graphs,
        feature_rows: Mapping[str, int] | None = None,
        camera: Camera | None = None,
    ) -> None:
        super().__init__(graphs, feature_rows)
        self.candidates: Candidates = candidates_of(graphs, camera)
        self._tables = _action_tables(self.candidates)

    def reset(self, tasks: Sequence[Task]) -> Observation:
        """Start one agent per task, at the first viewpoint of its path."""
        self.begin(tasks)
        return self.observe()

    def step(self, action: ArrayLike) -> Observation:
        """Move every agent to its candidate ``action`` (B,); -1 or ``count`` (STOP) stays."""
        count = self.candidates.count[self.node]
        index = self.check_actions(action, count + 1)
        target = self._tables.target[self.node, index]
        moves = (index >= 0) & (index < count)
        view = self._tables.view[self.node, index]
        self.go(np.where(moves, target, self.node), np.where(moves, view, self.view))
        return self.observe()

    def observe(self) -> Observation:
        """What the agents see now."""
        node, view = self.node, self.view
        count = self.candidates.count[node]
        k = int(count.max(initial=0)) + 1
        target = self._tables.target[node, :k]
        hop = self.graphs.next_hop(node, self.goal)
        found = target == hop[:, None]
        return Observation(
            node=node,
            view=view,
            heading=self.heading,
            elevation=self.elevation,
            row=self.row,
            pose=POSES[view],
            count=count,
            mask=np.arange(k) <= count[:, None],
            target=target,
            candidate_view=self._tables.view[node, :k],
            candidate_angle=self._tables.angle[node, view % NUM_HEADINGS, :k],
            teacher=np.where(found.any(axis=1), found.argmax(axis=1), count),
            distance=self.graphs.distance(node, self.goal),
        )

    def trajectories(self) -> list[list[Pose]]:
        """Walks in submission form, rotations included, as the authors write them."""
        return self.micro_poses()

    def details(self, i: int) -> CandidateDetails:
        """Candidates of agent ``i`` with their angles in radians."""
        node, found = self.node[i], self.candidates
        used = slice(0, found.count[node])
        absolute = found.heading[node, used]
        return CandidateDetails(
            target=found.target[node, used].astype(np.int64),
            view=found.view[node, used].astype(np.int64),
            slot=found.slot[node, used].astype(np.int64),
            heading=absolute - VIEW_STEP * (self.view[i] % NUM_HEADINGS),
            elevation=found.elevation[node, used],
            absolute_heading=absolute,
            distance=found.distance[node, used],
        )


class _ActionTables(NamedTuple):
    """Candidates with one more slot, which is blank at every node."""

    target: IntArray  # (N, K + 1), -1 where blank
    view: IntArray  # (N, K + 1), -1 where blank
    angle: NDArray[np.float32]  # (N, 12, K + 1, 4) seen from the 12 headings, zeros where blank


@lru_cache(maxsize=4)
def _action_tables(candidates: Candidates) -> _ActionTables:
    n, k = candidates.target.shape
    blank = np.full((n, 1), -1, dtype=np.int64)
    angle = np.zeros((n, NUM_HEADINGS, k + 1, 4), dtype=np.float32)
    used = candidates.target >= 0
    for column in range(NUM_HEADINGS):
        heading = candidates.heading - VIEW_STEP * column
        angle[:, column, :k] = angle_features(heading, candidates.elevation, 4) * used[..., None]
    return _ActionTables(
        np.concatenate([candidates.target, blank], axis=1),
        np.concatenate([candidates.view, blank], axis=1),
        angle,
    )
