"""A batch of agents that walk from viewpoint to viewpoint and log where they have been."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..simulator.geometry import (
    NUM_HEADINGS,
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    VIEW_STEP,
    AngleLayout,
    Camera,
    FloatArray,
    IntArray,
    angle_features,
    angle_table,
    nearest_view,
)
from ..simulator.graph import Candidates, Graphs, SimulatorError, as_array, candidates_of
from ..simulator.simulator import Simulator

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


class Begun(NamedTuple):
    """Tasks that can be walked, and where their B agents begin."""

    tasks: list[Task]
    start: IntArray  # (B,)
    goal: IntArray  # (B,)
    heading: FloatArray  # (B,) radians


def check_tasks(graphs: Graphs, tasks: Iterable[Task]) -> Begun:
    """Where the agents of ``tasks`` begin.

    Raises ``SimulatorError`` naming the first task that cannot be walked in its scan: without an
    attribute of `Task`, a known scan or a path of its viewpoints, or with a heading that is no
    finite number.
    """
    if isinstance(tasks, str) or not isinstance(tasks, Iterable):
        raise SimulatorError(f"tasks must be a list, got {tasks!r}")
    known = list(tasks)
    ends = [_ends(graphs, number, task) for number, task in enumerate(known)]
    start, goal = np.array(ends, dtype=np.int64).reshape(-1, 2).T
    check_reached(graphs, known, start, goal)
    return Begun(known, start, goal, np.array([task.heading for task in known], dtype=np.float64))


def _ends(graphs: Graphs, number: int, task: Task) -> tuple[int, int]:
    """First and last node of a task, all of which is checked."""
    absent = [name for name in ("id", "scan", "path", "heading") if not hasattr(task, name)]
    if absent:
        raise SimulatorError(
            f"task {number} is {task!r}, which has no {absent[0]!r}; give an Episode, or an object "
            "with id, scan, path and heading"
        )
    path, heading = task.path, task.heading
    if not isinstance(path, list | tuple) or not path:
        raise SimulatorError(
            f"item {task.id!r}: the path must be a list of viewpoints, the start at least, got "
            f"{path!r}"
        )
    right = isinstance(heading, int | float | np.integer | np.floating)
    if isinstance(heading, bool) or not right or not np.isfinite(heading):
        raise SimulatorError(
            f"item {task.id!r}: the heading must be a finite number of radians, got {heading!r}"
        )
    try:
        nodes = [graphs.node(task.scan, viewpoint) for viewpoint in path]
    except SimulatorError as error:
        raise SimulatorError(f"item {task.id!r}: {error}") from None
    return nodes[0], nodes[-1]


def check_reached(graphs: Graphs, tasks: Sequence[Task], start: IntArray, goal: IntArray) -> None:
    """Raise ``SimulatorError`` naming the first task whose ``goal`` (B,) is out of reach."""
    far = ~np.isfinite(graphs.distance(start, goal))
    if far.any():
        i = int(far.argmax())
        raise SimulatorError(
            f"item {tasks[i].id!r}: viewpoint {graphs.viewpoints[goal[i]]!r} cannot be reached "
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
        """Place one agent per task.

        Raises ``SimulatorError`` naming the first bad task; nothing has changed then.
        """
        begun = check_tasks(self.graphs, tasks)
        for task in begun.tasks:
            if task.scan in self._unchecked:
                self._check_features(task.scan)
        self.tasks, self.node, self.goal = begun.tasks, begun.start, begun.goal
        self.view = nearest_view(begun.heading, 0.0)
        self._log = [(self.node, self.view)]

    def set_goals(self, goal: IntArray) -> None:
        """Change the goal nodes (B,).

        Raises ``SimulatorError`` unless there are B that can be reached; nothing has changed then.
        """
        goal = self.graphs.checked(goal)
        if goal.shape != self.node.shape:
            raise SimulatorError(f"goals must be {len(self.node)} nodes, got shape {goal.shape}")
        check_reached(self.graphs, self.tasks, self.node, goal)
        self.goal = goal

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
        self._check_begun("starts")
        return self._log[0][0]

    def walked(self) -> FloatArray:
        """Meters (B,) that the agents have gone since they began."""
        self._check_begun("walked")
        nodes = np.stack([node for node, _ in self._log])  # (steps + 1, B)
        return self.graphs.distance(nodes[:-1], nodes[1:]).sum(axis=0)

    @property
    def row(self) -> IntArray:
        """Rows (B,) of the current viewpoints in the feature table."""
        return self._rows[self.node]

    def check_actions(self, action: ArrayLike, count: IntArray) -> IntArray:
        """Actions as int64 (B,); raises ``SimulatorError`` unless -1 <= action < ``count``."""
        self._check_begun("step")
        action = as_array(action)
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

    def check_ended(self, ended: ArrayLike) -> NDArray[np.bool_]:
        """Which agents (B,) have ended, of B values or one for all; else ``SimulatorError``."""
        given = as_array(ended)
        if given.dtype.kind != "b" or given.shape not in ((), self.node.shape):
            raise SimulatorError(
                f"ended must be {len(self.node)} truth values or one, got {given.dtype} of shape "
                f"{given.shape}"
            )
        return np.broadcast_to(given, self.node.shape)

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

    def _check_begun(self, call: str) -> None:
        if not self._log:
            raise SimulatorError(f"no agent has been placed; call reset(tasks) before {call}()")

    def _logged(self) -> list[tuple[NDArray, NDArray]]:
        self._check_begun("trajectories")
        nodes = np.stack([entry[0] for entry in self._log], axis=1)  # (B, steps + 1)
        views = np.stack([entry[1] for entry in self._log], axis=1)
        return list(zip(nodes, views, strict=True))

    def _pose(self, node: int, view: int) -> Pose:
        heading, elevation = float(VIEW_HEADINGS[view]), float(VIEW_ELEVATIONS[view])
        return self.graphs.viewpoints[node], heading, elevation

    def pose(self, i: int) -> Pose:
        """Where agent ``i`` is now, in submission form."""
        self._check_begun("pose")
        if not 0 <= i < len(self.node):
            raise SimulatorError(f"there is no agent {i}; there are {len(self.node)}")
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

    def pick(self, rows: IntArray) -> Observation:
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
        hop = self.graphs.next_hop(node, self.wanted())
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
            distance=self.remaining(),
        )

    def wanted(self) -> IntArray:
        """Nodes (B,) that the teacher leads to: the goals."""
        return self.goal

    def remaining(self) -> FloatArray:
        """Meters (B,) that the teacher still has to go: the shortest way to the goal."""
        return self.graphs.distance(self.node, self.goal)

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


class PathEnvironment(NavigationEnvironment):
    """The same where the way matters: the teacher leads along the path of the data.

    Paths of R4R and RxR are no shortest ones, and a walk is scored against all of them. The teacher
    leads to the first viewpoint of the path that has not been reached yet, in the path's order, and
    stops when all have been; ``distance`` is the way there and the rest of the path, so that
    rewards are for following it.
    """

    def begin(self, tasks: Sequence[Task]) -> None:
        super().begin(tasks)
        lengths = np.array([len(task.path) for task in tasks])
        self._ends = lengths - 1  # (B,)
        self._paths = np.empty((len(tasks), int(lengths.max(initial=1))), dtype=np.int64)
        for i, task in enumerate(tasks):
            nodes = self.graphs.nodes([task.scan] * lengths[i], task.path)
            self._paths[i] = np.append(nodes, [nodes[-1]] * (self._paths.shape[1] - lengths[i]))
        steps = self.graphs.distance(self._paths[:, :-1], self._paths[:, 1:])  # (B, P - 1)
        rest = np.cumsum(steps[:, ::-1], axis=1)[:, ::-1]
        self._rest = np.hstack([rest, np.zeros((len(tasks), 1))])  # (B, P) meters from each place
        self._reached = np.zeros(len(tasks), dtype=np.int64)
        self._advance()

    def go(self, node: IntArray, view: IntArray) -> None:
        super().go(node, view)
        self._advance()

    def _advance(self) -> None:
        """Count the viewpoints of the path (B,) that have been reached, one after the other."""
        while True:
            further = (self.wanted() == self.node) & (self._reached < self._ends)
            if not further.any():
                return
            self._reached = self._reached + further

    def wanted(self) -> IntArray:
        return self._paths[np.arange(len(self._paths)), self._reached]

    def remaining(self) -> FloatArray:
        rest = self._rest[np.arange(len(self._rest)), self._reached]
        return self.graphs.distance(self.node, self.wanted()) + rest


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


class DictionaryObservations:
    """Turns batched observations into EnvDrop's dictionaries.

    Args:
        environment: whose state is read.
        table: image features (R, 36, D) addressed by ``Observation.row``; None leaves them out.
        angle_size: width of the encoded angles.
        layout: of the encoded angles.
        first_visit_keys: as in the original, candidates carry ``normalized_heading`` and
            ``distance`` at the first visit of a viewpoint only; by default they always do.
    """

    def __init__(
        self,
        environment: NavigationEnvironment,
        table: NDArray[np.float32] | None = None,
        *,
        angle_size: int = 128,
        layout: AngleLayout = "interleaved",
        first_visit_keys: bool = False,
    ) -> None:
        self.environment = environment
        self.table = table
        self.angle_size = angle_size
        self.layout: AngleLayout = layout
        self.first_visit_keys = first_visit_keys
        self._angles = angle_table(angle_size, layout)
        self._visited: set[int] = set()

    def build(self, observation: Observation) -> list[dict[str, Any]]:
        """One dictionary per agent."""
        simulator = Simulator(self.environment.graphs)
        simulator.start(observation.node, observation.heading, observation.elevation)
        seen = simulator.navigable()
        result = []
        for i, task in enumerate(self.environment.tasks):
            viewpoints = self.environment.graphs.viewpoints
            places = [
                (viewpoints[seen.node[i, j]], seen.heading[i, j], seen.elevation[i, j],
                 seen.distance[i, j])
                for j in range(seen.count[i])
            ]  # fmt: skip
            teacher, count = observation.teacher[i], observation.count[i]
            ahead = observation.target[i, teacher] if teacher < count else observation.node[i]
            entry: dict[str, Any] = {
                "instr_id": task.id,
                "scan": task.scan,
                "viewpoint": viewpoints[observation.node[i]],
                "viewIndex": int(observation.view[i]),
                "heading": float(observation.heading[i]),
                "elevation": float(observation.elevation[i]),
                "candidate": self._candidates(observation, i),
                "navigableLocations": places,
                "teacher": viewpoints[ahead],
                "distance": float(observation.distance[i]),
            }
            if self.table is not None:
                entry["feature"] = self._panorama(observation, i)
            result.append(entry)
        return result

    def _panorama(self, observation: Observation, i: int) -> NDArray[np.float32]:
        assert self.table is not None
        images = np.asarray(self.table[observation.row[i]], dtype=np.float32)
        return np.concatenate([images, self._angles[observation.view[i]]], axis=1)

    def _candidates(self, observation: Observation, i: int) -> list[dict[str, Any]]:
        node = int(observation.node[i])
        found = self.environment.details(i)
        short = self.first_visit_keys and node in self._visited
        self._visited.add(node)
        graphs, entries = self.environment.graphs, []
        for j, target in enumerate(found.target):
            heading, elevation = float(found.heading[j]), float(found.elevation[j])
            entry: dict[str, Any] = {
                "heading": heading,
                "elevation": elevation,
                "scanId": graphs.scan_of(node),
                "viewpointId": graphs.viewpoints[target],
                "pointId": int(found.view[j]),
                "idx": int(found.slot[j]),
            }
            if not short:
                entry["normalized_heading"] = float(found.absolute_heading[j])
                entry["distance"] = float(found.distance[j])
            if self.table is not None:
                image = np.asarray(self.table[observation.row[i], found.view[j]], np.float32)
                angle = angle_features(heading, elevation, self.angle_size, self.layout)
                entry["feature"] = np.concatenate([image, angle])
            entries.append(entry)
        return entries
