"""HANNA: agents that look for an object and can be put on a route by ANNA (EMNLP 2019, Sec. 3).

The action space is the panoramic one. An agent searches (mode ``main``) or follows what ANNA has
told it (``on_route``) until it departs by the stop action; in mode ``main`` that action ends the
episode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..simulator.geometry import NUM_HEADINGS, NUM_VIEWS, FloatArray, IntArray, relative_view
from ..simulator.graph import Candidates, Graphs, SimulatorError
from .navigation import Pose, Task, check_reached, check_tasks
from .panorama import PanoramicEnvironment, PanoramicObservation

Mode = Literal["main", "on_route"]
OWN_SLOT = NUM_VIEWS
"""Place of the stop action among the 37 relative views."""


class ObjectTask(Task, Protocol):
    """A task with several goals and a text."""

    @property
    def goals(self) -> Sequence[str]: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True)
class HannaObservation:
    """What B agents see and know. K is the largest number of actions; action 0 is to stop."""

    scene: PanoramicObservation  # its teacher leads to the nearest present target, 0 at it
    slot: IntArray  # (B, K) relative view 0..35 of an action, 36 for stop, -1 for padding
    goal_row: IntArray  # (B,) feature row of the place to be reached, -1 while it is unknown
    texts: tuple[str, ...]  # B instructions, of the search or of the route
    modes: tuple[Mode, ...]
    targets: tuple[tuple[int, ...], ...]  # nodes that would be right to stop at
    subgoals: tuple[int | str | None, ...]  # route that is followed, None in mode main
    time: int  # steps since the start
    time_on_task: IntArray  # (B,) steps since the instruction was given
    begins: NDArray[np.bool_]  # (B,) the instruction is new
    requestable: NDArray[np.bool_]  # (B,) ANNA has an answer here
    ended: NDArray[np.bool_]  # (B,) before this step

    @property
    def distance(self) -> FloatArray:
        """(B,) meters to the nearest present target."""
        return self.scene.distance


class HannaEnvironment(PanoramicEnvironment):
    """B agents that search, ask, follow routes and stop.

    Args:
        graphs: the scans.
        anna: the oracle, on the same graphs.
        feature_rows: row of every ``scan_viewpoint`` in a feature table; None without features.
        candidates: read from a file of the authors; computed when None.
    """

    def __init__(
        self,
        graphs: Graphs,
        anna: Anna,
        feature_rows: Mapping[str, int] | None = None,
        candidates: Candidates | None = None,
    ) -> None:
        super().__init__(graphs, feature_rows, candidates=candidates)
        self.anna, self.helper = anna, ""
        self.goals: list[tuple[int, ...]] = []
        self.targets: list[tuple[int, ...]] = []

    def search(self, tasks: Sequence[ObjectTask], helper: str) -> HannaObservation:
        """Start one agent per task; ``helper`` is the split of the routes that ANNA tells.

        Raises ``SimulatorError`` naming the first bad task; nothing has changed then.
        """
        begun = check_tasks(self.graphs, tasks)
        goals = [self._goals_of(task) for task in tasks]
        check_reached(self.graphs, begun.tasks, begun.start, np.array([g[0] for g in goals]))
        self.begin(tasks)
        self.helper, size, self.goals = helper, len(tasks), goals
        self.targets = list(self.goals)
        self._main_texts = [task.text for task in tasks]
        self.texts = list(self._main_texts)
        self.modes: list[Mode] = ["main"] * size
        self.subgoals: list[int | str | None] = [None] * size
        self.messages: list[Message | None] = [None] * size  # the last one of each agent
        self.time, self.time_on_task = 0, np.zeros(size, dtype=np.int64)
        self.ended = np.zeros(size, dtype=bool)
        self._goal_node = np.full(size, -1, dtype=np.int64)
        self._begins = np.ones(size, dtype=bool)
        return self.look()

    def _goals_of(self, task: ObjectTask) -> tuple[int, ...]:
        if not isinstance(task.goals, list | tuple) or not task.goals:
            raise SimulatorError(
                f"item {task.id!r}: the goals must be a list of viewpoints, one at least, got "
                f"{task.goals!r}"
            )
        try:
            return tuple(self.graphs.node(task.scan, goal) for goal in task.goals)
        except SimulatorError as error:
            raise SimulatorError(f"item {task.id!r}: {error}") from None

    def act(self, action: ArrayLike, messages: Sequence[Message | None]) -> HannaObservation:
        """Carry out actions (B,) of the agents, for those with a message what it says.

        Agents that have ended go on moving where their action says so, as in the authors' code;
        nothing of it is recorded. Raises ``SimulatorError`` for an action or a message that cannot
        be; nothing has changed then.
        """
        index = self.check_actions(action, self.candidates.count[self.node] + 1)
        if not isinstance(messages, list | tuple) or len(messages) != len(index):
            raise SimulatorError(f"messages must be a list of {len(index)}, got {messages!r}")
        for i, message in enumerate(messages):
            if message is not None:
                self._check_message(i, message)
        asked = np.array([message is not None for message in messages])
        stops = (index <= 0) & ~asked
        self._begins = asked | (stops & np.array([mode == "on_route" for mode in self.modes]))
        self.ended = self.ended | (stops & ~self._begins)
        node, view = self._moved(np.where(asked, 0, index))
        for i, message in enumerate(messages):
            if message is not None:
                self._follow(i, message)
                node[i], view[i] = message.start, message.view
            elif self._begins[i]:
                self._depart(i)
        self.go(node, view)
        self.time += 1
        self.time_on_task = np.where(self._begins, 0, self.time_on_task + ~stops)
        return self.look()

    def _moved(self, index: IntArray) -> tuple[IntArray, IntArray]:
        column, moves = self.view % NUM_HEADINGS, index > 0
        index = np.maximum(index, 0)
        target = self._tables.target[self.node, column, index].astype(np.int64)
        view = self._tables.view[self.node, column, index].astype(np.int64)
        return np.where(moves, target, self.node), np.where(moves, view, self.view)

    def _check_message(self, i: int, message: Message) -> None:
        if not isinstance(message, Message):
            raise SimulatorError(f"messages must be None or ANNA's answers, got {message!r}")
        if message.start != self.node[i] and not self.graphs.adjacent(self.node[i], message.start):
            raise SimulatorError(
                f"item {self.tasks[i].id!r}: route {message.route!r} begins at "
                f"{self.graphs.long_id(message.start)!r}, which is no neighbor of "
                f"{self.graphs.long_id(self.node[i])!r}"
            )

    def _follow(self, i: int, message: Message) -> None:
        self.modes[i], self.subgoals[i], self.messages[i] = "on_route", message.route, message
        self.texts[i], self.targets[i] = message.text, (message.depart,)
        self._goal_node[i] = message.depart

    def _depart(self, i: int) -> None:
        message = self.messages[i]
        assert message is not None
        self.modes[i], self.subgoals[i] = "main", None
        self.texts[i], self.targets[i] = self._main_texts[i], (message.goal,)
        self._goal_node[i] = message.goal

    def answers(self, i: int) -> list[Message]:
        """What ANNA would tell agent ``i`` here."""
        return self.anna.answers(self.helper, int(self.node[i]), self.goals[i])

    def look(self) -> HannaObservation:
        """What the agents see and know now."""
        self.set_goals(self._nearest_targets())
        scene = self.observe()
        slot = np.where(
            scene.candidate_view >= 0,
            relative_view(np.maximum(scene.candidate_view, 0), self.view[:, None]),
            -1,
        )
        slot[:, 0] = OWN_SLOT
        known = self._goal_node >= 0
        return HannaObservation(
            scene=scene,
            slot=slot,
            goal_row=np.where(known, self._rows[np.maximum(self._goal_node, 0)], -1),
            texts=tuple(self.texts),
            modes=tuple(self.modes),
            targets=tuple(self.targets),
            subgoals=tuple(self.subgoals),
            time=self.time,
            time_on_task=self.time_on_task,
            begins=self._begins,
            requestable=np.array([bool(self.answers(i)) for i in range(len(self.tasks))]),
            ended=self.ended,
        )

    def every_pose(self) -> list[list[Pose]]:
        """Where each agent was before every step and after the last, stays included."""
        return [
            [self._pose(node, view) for node, view in zip(nodes, views, strict=True)]
            for nodes, views in self._logged()
        ]

    def _nearest_targets(self) -> IntArray:
        """The target (B,) of each agent that is nearest; the first of equally near ones."""
        width = max(map(len, self.targets), default=1)
        padded = np.array([t + t[:1] * (width - len(t)) for t in self.targets], dtype=np.int64)
        nearest = self.graphs.distance(self.node[:, None], padded).argmin(axis=1)
        return padded[np.arange(len(padded)), nearest]


START_RADIUS = 2.0  # meters to the start of a route in a neighboring place
TIE = 1e-6  # meters


class RouteLike(Protocol):
    """A route; any object with these attributes will do."""

    @property
    def id(self) -> int | str: ...
    @property
    def scan(self) -> str: ...
    @property
    def path(self) -> Sequence[str]: ...
    @property
    def view(self) -> int: ...
    @property
    def split(self) -> str: ...
    @property
    def text(self) -> str: ...


class Message(NamedTuple):
    """ANNA's answer: go to ``start``, turn to ``view``, follow the text, leave at ``depart``."""

    route: int | str
    request: int  # node where help was asked for
    text: str
    view: int  # 0..35
    start: int  # node, the place of the request or a neighbor
    depart: int  # node of the route that is nearest to a goal
    goal: int  # that goal's node

    def record(self, graphs: Graphs) -> dict[str, Any]:
        """Its form in a result file."""
        names = graphs.viewpoints
        return {
            "path_id": self.route,
            "request_node": names[self.request],
            "instruction": self.text,
            "view_id": self.view,
            "start_node": names[self.start],
            "depart_node": names[self.depart],
            "goal_node": names[self.goal],
        }


class _Path(NamedTuple):
    route: RouteLike
    nodes: np.ndarray  # (n,)


class Anna:
    """Routes of some scans by the places where they can be begun.

    Args:
        graphs: the scans; routes of others are left out.
        routes: of all splits. The best route counts, whatever its split; only those of the split
            that a traveller is in are told.
        start_radius: in meters; a route may begin at a neighbor that is at most this far away.

    Raises:
        SimulatorError: a route names a viewpoint that its scan lacks.
    """

    def __init__(
        self, graphs: Graphs, routes: Iterable[RouteLike], start_radius: float = START_RADIUS
    ) -> None:
        self.graphs, self.start_radius = graphs, start_radius
        self._starting: dict[int, list[_Path]] = {}
        self._answers: dict[tuple[str, int, tuple[int, ...]], list[Message]] = {}
        for route in routes:
            if route.scan not in graphs.scans:
                continue
            try:
                nodes = np.array([graphs.node(route.scan, name) for name in route.path])
            except SimulatorError as error:
                raise SimulatorError(f"route {route.id!r}: {error}") from None
            self._starting.setdefault(int(nodes[0]), []).append(_Path(route, nodes))

    def texts(self, split: str) -> list[str]:
        """What she may tell of the routes of ``split``."""
        routes = (path.route for paths in self._starting.values() for path in paths)
        return [route.text for route in routes if route.split == split]

    def startable(self, node: int) -> list[_Path]:
        """Routes that begin at ``node``, then those of near neighbors, in file order each."""
        near = self.graphs.neighbors[node][: self.graphs.degree[node]].astype(np.int64)
        reached = near[self.graphs.distance(node, near) <= self.start_radius]
        return [
            path for start in (node, *reached.tolist()) for path in self._starting.get(start, ())
        ]

    def answers(self, split: str, node: int, goals: Sequence[int]) -> list[Message]:
        """Equally good answers at ``node`` for a traveller to ``goals``; none where none is told.

        Deviation: where the best route belongs to another split the authors' code fails; here no
        help can be asked for.
        """
        key = (split, int(node), tuple(goals))
        if key not in self._answers:
            self._answers[key] = self._find(*key)
        return self._answers[key]

    def _find(self, split: str, node: int, goals: Sequence[int]) -> list[Message]:
        best, kept = np.inf, []
        for path in self.startable(node):
            away = self.graphs.distance(path.nodes[:, None], np.asarray(goals))  # (n, goals)
            i, j = divmod(int(away.argmin()), len(goals))
            best = min(best, float(away[i, j]))
            kept.append((float(away[i, j]), path, int(path.nodes[i]), goals[j]))
        return [
            Message(
                path.route.id,
                node,
                path.route.text,
                path.route.view,
                int(path.nodes[0]),
                depart,
                goal,
            )
            for distance, path, depart, goal in kept
            if distance <= best + TIE and np.isfinite(distance) and path.route.split == split
        ]
