"""The six-action space of the first R2R and NDH agents (Anderson et al., CVPR 2018).

An agent sees one view at a time and turns, tilts, goes forward or ends.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..simulator.geometry import NUM_HEADINGS, VIEW_STEP, Camera, FloatArray, IntArray
from ..simulator.graph import Graphs, SimulatorError, as_array
from ..simulator.simulator import Navigable, Simulator
from .navigation import Pose, Task, Walk

ACTIONS = ("left", "right", "up", "down", "forward", "end")
LEFT, RIGHT, UP, DOWN, FORWARD, END = range(len(ACTIONS))
SIMULATOR_ACTIONS: IntArray = np.array(
    [[0, -1, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1], [1, 0, 0], [0, 0, 0]]
)
"""(index, heading, elevation) of every action; forward goes to the nearest place in view."""


@dataclass(frozen=True)
class LowLevelObservation:
    """What B agents see."""

    node: IntArray  # (B,)
    view: IntArray  # (B,) 0..35, the only view the agent sees
    heading: FloatArray  # (B,) radians
    elevation: FloatArray  # (B,) radians
    row: IntArray  # (B,) row in the feature table, -1 without one
    navigable: Navigable
    can_move: NDArray[np.bool_]  # (B,) False: nothing ahead, forward would fail
    teacher: IntArray  # (B,) index in ``ACTIONS``
    teacher_step: IntArray  # (B, 3) (index, heading, elevation) of the shortest path, zeros = end
    distance: FloatArray  # (B,) meters to the goal


class LowLevelEnvironment(Walk):
    """B agents that turn, tilt and go forward.

    Args:
        graphs: the scans.
        feature_rows: row of every ``scan_viewpoint`` in a feature table; None without features.
        camera: decides which neighbors are in view.
    """

    def __init__(
        self,
        graphs: Graphs,
        feature_rows: Mapping[str, int] | None = None,
        camera: Camera | None = None,
    ) -> None:
        super().__init__(graphs, feature_rows)
        self.simulator = Simulator(graphs, camera)
        self._taken: list[NDArray[np.bool_]] = []

    def reset(self, tasks: Sequence[Task]) -> LowLevelObservation:
        """Start one agent per task, at the first viewpoint of its path."""
        self.begin(tasks)
        self.simulator.start(self.node, self.heading, self.elevation)
        self._taken = [np.ones(len(self.node), dtype=bool)]
        return self.observe()

    def step(self, action: ArrayLike) -> LowLevelObservation:
        """Take ``action`` (B,), indices into ``ACTIONS``; -1 for agents that have ended.

        Raises:
            SimulatorError: forward with nothing ahead.
        """
        action = self.check_actions(action, np.full(len(self.node), len(ACTIONS)))
        chosen = np.where(action < 0, END, action)
        return self.step_raw(SIMULATOR_ACTIONS[chosen], ended=chosen == END)

    def step_raw(self, steps: ArrayLike, ended: ArrayLike = False) -> LowLevelObservation:
        """Take simulator actions (B, 3): index, heading, elevation.

        Agents that have ``ended`` (B,) are stepped, but their poses are no longer logged.
        """
        self._check_begun("step")
        steps, taken = as_array(steps), ~self.check_ended(ended)
        if steps.shape != (len(self.node), 3):
            raise SimulatorError(f"actions must be ({len(self.node)}, 3), got {steps.shape}")
        self.simulator.step(*steps.T)
        self._taken.append(taken)
        self.go(self.simulator.node, self.simulator.view)
        return self.observe()

    def observe(self) -> LowLevelObservation:
        """What the agents see now."""
        seen = self.simulator.navigable()
        steps = self._teacher_steps(seen)
        return LowLevelObservation(
            node=self.node,
            view=self.view,
            heading=self.heading,
            elevation=self.elevation,
            row=self.row,
            navigable=seen,
            can_move=seen.count > 1,
            teacher=_action_of(steps),
            teacher_step=steps,
            distance=self.graphs.distance(self.node, self.goal),
        )

    def _teacher_steps(self, seen: Navigable) -> IntArray:
        """Look at the next viewpoint of the shortest path, then go there."""
        hop = self.graphs.next_hop(self.node, self.goal)
        level = self.view // NUM_HEADINGS
        agent = np.arange(len(hop))
        ahead = seen.node[:, 1:] == hop[:, None]
        slot = ahead.argmax(axis=1) + 1 if ahead.shape[1] else np.zeros_like(hop)
        visible = ahead.any(axis=1)
        right, up = seen.heading[agent, slot], seen.elevation[agent, slot]
        turn = np.sign(right) * (np.abs(right) > VIEW_STEP)
        tilt = np.sign(up) * (np.abs(up) > VIEW_STEP)
        tilt[(level + tilt < 0) | (level + tilt > 2) | (turn != 0)] = 0
        index = np.where((turn == 0) & (tilt == 0), slot, 0)
        toward = np.stack([index, turn, tilt], axis=1).astype(np.int64)
        search = np.stack([0 * hop, self._turn_to(hop) * (level == 1), 1 - level], axis=1)
        steps = np.where(visible[:, None], toward, search)
        steps[hop == self.node] = 0
        return steps

    def _turn_to(self, target: IntArray) -> IntArray:
        """+1 (right) or -1 (left), the short way towards nodes (B,); right where both are equal."""
        offset = self.graphs.positions[target] - self.graphs.positions[self.node]
        bearing = np.pi / 2 - np.arctan2(offset[:, 1], offset[:, 0])
        return np.where((bearing - self.heading) % (2 * np.pi) > np.pi, -1, 1)

    def trajectories(self) -> list[list[Pose]]:
        """Walks in submission form: one pose per action until the agent ended."""
        self._check_begun("trajectories")
        taken = np.stack(self._taken, axis=1)
        return [
            [self._pose(n, v) for n, v in zip(nodes[keep], views[keep], strict=True)]
            for (nodes, views), keep in zip(self._logged(), taken, strict=True)
        ]


def _action_of(steps: IntArray) -> IntArray:
    """Indices into ``ACTIONS`` of simulator actions (B, 3)."""
    index, right, up = steps.T
    conditions = [index > 0, right > 0, right < 0, up > 0, up < 0]
    return np.select(conditions, [FORWARD, RIGHT, LEFT, UP, DOWN], default=END)
