"""A batch of agents that walk from viewpoint to viewpoint and log where they have been."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..simulator.geometry import (
    NUM_HEADINGS,
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    FloatArray,
    IntArray,
    nearest_view,
)
from ..simulator.graph import Graphs, SimulatorError

Pose = tuple[str, float, float]
"""Viewpoint, heading and elevation in radians: one entry of a submission file."""


class Task(Protocol):
    """What an environment needs to know of an item; any object with these attributes will do."""

    @property
    def id(self) -> str: ...
    @property
    def scan(self) -> str: ...
    @property
    def path(self) -> Sequence[str]: ...
    @property
    def heading(self) -> float: ...


@dataclass(frozen=True)
class Episode:
    """A walk to be done: from the first to the last viewpoint of ``path``."""

    scan: str
    path: tuple[str, ...]
    heading: float = 0.0
    """Start heading in radians; it snaps to the nearest of the 12 headings."""
    id: str = ""
    text: str = ""


def check_tasks(graphs: Graphs, tasks: Iterable[Task]) -> None:
    """Raise ``SimulatorError`` naming the first task that cannot be walked in its scan."""
    known = list(tasks)
    ends = []
    for task in known:
        try:
            nodes = [graphs.node(task.scan, viewpoint) for viewpoint in task.path]
        except SimulatorError as error:
            raise SimulatorError(f"item {task.id!r}: {error}") from None
        ends.append((nodes[0], nodes[-1]))
    start, goal = np.array(ends, dtype=np.int64).reshape(-1, 2).T
    far = ~np.isfinite(graphs.distance(start, goal))
    if far.any():
        i = int(far.argmax())
        raise SimulatorError(
            f"item {known[i].id!r}: viewpoint {graphs.viewpoints[goal[i]]!r} cannot be reached "
            f"from {graphs.long_id(start[i])!r}"
        )


class Walk:
    """State, goals and log of B agents that jump between neighbors.

    Args:
        graphs: the scans.
        feature_rows: row of every ``scan_viewpoint`` in a feature table; None without features.

    ``node``, ``view``, ``goal`` and ``row`` are (B,); ``row`` is -1 without features.
    """

    def __init__(self, graphs: Graphs, feature_rows: Mapping[str, int] | None = None) -> None:
        self.graphs = graphs
        self._rows = np.full(len(graphs.viewpoints), -1, dtype=np.int64)
        self._unchecked: set[str] = set()
        if feature_rows is not None:
            ids = (graphs.long_id(n) for n in range(len(graphs.viewpoints)))
            self._rows[:] = [feature_rows.get(name, -1) for name in ids]
            self._unchecked = set(graphs.scans)
        self.tasks: list[Task] = []
        self.node = self.view = self.goal = np.zeros(0, dtype=np.int64)
        self._log: list[tuple[IntArray, IntArray]] = []

    def begin(self, tasks: Sequence[Task]) -> None:
        """Place one agent per task; raises ``SimulatorError`` naming the first bad task."""
        self.tasks = list(tasks)
        for task in tasks:
            if task.scan in self._unchecked:
                self._check_features(task.scan)
        scans = [task.scan for task in tasks]
        self.node = self.graphs.nodes(scans, [task.path[0] for task in tasks])
        self.view = nearest_view([task.heading for task in tasks], 0.0)
        self.set_goals(self.graphs.nodes(scans, [task.path[-1] for task in tasks]))
        self._log = [(self.node, self.view)]

    def set_goals(self, goal: IntArray) -> None:
        """Change the goal nodes (B,); each must be reachable."""
        far = ~np.isfinite(self.graphs.distance(self.node, goal))
        if far.any():
            i = int(far.argmax())
            raise SimulatorError(
                f"item {self.tasks[i].id!r}: viewpoint {self.graphs.viewpoints[goal[i]]!r} cannot "
                f"be reached from {self.graphs.long_id(self.node[i])!r}"
            )
        self.goal = np.asarray(goal, dtype=np.int64)

    def _check_features(self, scan: str) -> None:
        nodes = self.graphs.connected(scan)  # nobody gets to an isolated viewpoint
        missing = nodes[self._rows[nodes] < 0]
        if len(missing):
            raise SimulatorError(
                f"the feature file lacks {len(missing)} of {len(nodes)} viewpoints of scan "
                f"{scan!r}, the first being {self.graphs.long_id(missing[0])!r}"
            )
        self._unchecked.discard(scan)

    def starts(self) -> IntArray:
        """Nodes (B,) where the agents began."""
        return self._log[0][0]

    def walked(self) -> FloatArray:
        """Meters (B,) that the agents have gone since they began."""
        nodes = np.stack([node for node, _ in self._log])  # (steps + 1, B)
        return self.graphs.distance(nodes[:-1], nodes[1:]).sum(axis=0)

    @property
    def row(self) -> IntArray:
        """Rows (B,) of the current viewpoints in the feature table."""
        return self._rows[self.node]

    def check_actions(self, action: ArrayLike, count: IntArray) -> IntArray:
        """Actions as int64 (B,); raises ``SimulatorError`` unless -1 <= action < ``count``."""
        action = np.asarray(action)
        if action.shape != self.node.shape or action.dtype.kind not in "iu":
            raise SimulatorError(
                f"actions must be {len(self.node)} integers, got {action.dtype} of shape "
                f"{action.shape}"
            )
        bad = (action < -1) | (action >= count)
        if bad.any():
            i = int(bad.argmax())
            raise SimulatorError(
                f"item {self.tasks[i].id!r}: action {action[i]} at viewpoint "
                f"{self.graphs.long_id(self.node[i])!r} is out of range -1..{count[i] - 1}"
            )
        return action.astype(np.int64)

    def go(self, node: IntArray, view: IntArray) -> None:
        """Put the agents at ``node`` (B,) facing ``view`` (B,) and log it."""
        self.node, self.view = node, view
        self._log.append((node, view))

    def poses(self) -> list[list[Pose]]:
        """The start and every move of each agent: one entry per step that changed something."""
        walks = []
        for nodes, views in self._logged():
            keep = np.ones(len(nodes), dtype=bool)
            keep[1:] = (nodes[1:] != nodes[:-1]) | (views[1:] != views[:-1])
            walks.append([self._pose(n, v) for n, v in zip(nodes[keep], views[keep], strict=True)])
        return walks

    def micro_poses(self) -> list[list[Pose]]:
        """Every turn, tilt and move in the way of the authors: tilt first, then turn right only."""
        walks = []
        for nodes, views in self._logged():
            walk = [self._pose(nodes[0], views[0])]
            for i in range(1, len(nodes)):
                if nodes[i] != nodes[i - 1]:
                    turned = turns_between(views[i - 1], views[i])
                    walk += [self._pose(nodes[i - 1], view) for view in turned]
                    walk.append(self._pose(nodes[i], views[i]))
            walks.append(walk)
        return walks

    def _logged(self) -> list[tuple[NDArray, NDArray]]:
        nodes = np.stack([entry[0] for entry in self._log], axis=1)  # (B, steps + 1)
        views = np.stack([entry[1] for entry in self._log], axis=1)
        return list(zip(nodes, views, strict=True))

    def _pose(self, node: int, view: int) -> Pose:
        heading, elevation = float(VIEW_HEADINGS[view]), float(VIEW_ELEVATIONS[view])
        return self.graphs.viewpoints[node], heading, elevation

    def pose(self, i: int) -> Pose:
        """Where agent ``i`` is now, in submission form."""
        return self._pose(self.node[i], self.view[i])

    @property
    def heading(self) -> FloatArray:
        """Headings (B,) in radians."""
        return VIEW_HEADINGS[self.view]

    @property
    def elevation(self) -> FloatArray:
        """Elevations (B,) in radians."""
        return VIEW_ELEVATIONS[self.view]


def turns_between(view: int, target: int) -> list[int]:
    """Views passed on the way to ``target``: tilts one level at a time, then right turns."""
    passed = []
    view, target = int(view), int(target)
    while view // NUM_HEADINGS != target // NUM_HEADINGS:
        view += NUM_HEADINGS if view < target - target % NUM_HEADINGS else -NUM_HEADINGS
        passed.append(view)
    while view != target:
        level = view // NUM_HEADINGS
        view = (view + 1) % NUM_HEADINGS + NUM_HEADINGS * level
        passed.append(view)
    return passed
