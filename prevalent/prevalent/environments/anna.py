"""ANNA, the oracle of HANNA: where help can be had, and which route she tells (EMNLP 2019, Sec. 3).

She knows routes of a scan. Asked by a traveller who looks for any of several goals, she names the
route, startable from there, that comes nearest to a goal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..simulator.graph import Graphs, SimulatorError

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
