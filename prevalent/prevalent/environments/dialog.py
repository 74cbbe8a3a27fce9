"""Navigation from Dialog History: panoramic actions whose log ends where the agent stops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .panorama import PanoramicEnvironment, PanoramicObservation
from .walk import Pose, Task

STOP = 0


class DialogEnvironment(PanoramicEnvironment):
    """`PanoramicEnvironment` that keeps one pose a move of every agent that has not ended.

    An episode begins at the first viewpoint of its path, level; its teacher leads to the last one
    on the shortest way.
    """

    _taken: list[NDArray[np.bool_]]

    def reset(self, tasks: Sequence[Task]) -> PanoramicObservation:
        """Start one agent per task, at the first viewpoint of its path."""
        self._taken = [np.ones(len(tasks), dtype=bool)]
        return super().reset(tasks)

    def step(self, action: ArrayLike, ended: ArrayLike = False) -> PanoramicObservation:
        """Take ``action`` (B,): 0 and -1 stay, others move.

        Agents that have ``ended`` (B,) may be moved, but their poses are no longer logged.
        """
        self._taken.append(~np.broadcast_to(np.asarray(ended, dtype=bool), self.node.shape))
        return super().step(action)

    def trajectories(self) -> list[list[Pose]]:
        """Walks in submission form: the start, and a pose for every move until the agent ended."""
        taken = np.stack(self._taken, axis=1)  # (B, steps + 1)
        return [
            [self._pose(n, v) for n, v in zip(nodes[keep], views[keep], strict=True)]
            for (nodes, views), keep in zip(self._logged(), taken, strict=True)
        ]
