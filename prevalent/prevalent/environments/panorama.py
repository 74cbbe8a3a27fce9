"""The panoramic action space of pre-training, NDH and HANNA: stop first, then by turning angle.

Unlike in ``navigation.py``, the first action is to stop and the neighbors follow in the order of
how far the agent would have to turn (Hao et al., CVPR 2020; Nguyen and Daume, EMNLP 2019).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.records import read_json
from ..runtime.files import json_text, write_atomically
from ..simulator.geometry import (
    NUM_HEADINGS,
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    VIEW_STEP,
    Camera,
    FloatArray,
    IntArray,
    angle_features,
    canonical_angle,
    relative_view,
)
from ..simulator.graph import Candidates, Graphs, SimulatorError, candidates_of
from .navigation import Pose, Task, Walk


@dataclass(frozen=True)
class PanoramicObservation:
    """What B agents see. K is the largest number of actions; action 0 is to stop."""

    node: IntArray  # (B,)
    view: IntArray  # (B,) 0..35
    heading: FloatArray  # (B,) radians
    elevation: FloatArray  # (B,) radians
    row: IntArray  # (B,) row in the feature table, -1 without one
    count: IntArray  # (B,) actions, stop included
    mask: NDArray[np.bool_]  # (B, K) True for actions
    target: IntArray  # (B, K) node; the current one for stop, -1 for padding
    candidate_view: IntArray  # (B, K) view that shows the neighbor, -1 for stop and padding
    rel_heading: FloatArray  # (B, K) radians from the agent's heading, in (-pi, pi]
    rel_elevation: FloatArray  # (B, K) radians from the horizon
    candidate_angle: NDArray[np.float32]  # (B, K, 4) encoded, zeros for stop and padding
    teacher: IntArray  # (B,) action on the shortest path, 0 at the goal
    distance: FloatArray  # (B,) meters to the goal


class PanoramicEnvironment(Walk):
    """B agents that stop or go to a neighbor of their viewpoint.

    Args:
        graphs: the scans.
        feature_rows: row of every ``scan_viewpoint`` in a feature table; None without features.
        camera: decides which view shows a neighbor.
        candidates: read from a ``navigable_locs.json``; computed when None.
    """

    def __init__(
        self,
        graphs: Graphs,
        feature_rows: Mapping[str, int] | None = None,
        camera: Camera | None = None,
        candidates: Candidates | None = None,
    ) -> None:
        super().__init__(graphs, feature_rows)
        self.candidates = candidates or candidates_of(graphs, camera)
        self._tables = _sorted_actions(self.candidates)

    def reset(self, tasks: Sequence[Task]) -> PanoramicObservation:
        """Start one agent per task, at the first viewpoint of its path."""
        self.begin(tasks)
        return self.observe()

    def step(self, action: ArrayLike) -> PanoramicObservation:
        """Take ``action`` (B,): 0 and -1 stay, others move; the agent then faces that way."""
        index = self.check_actions(action, self.candidates.count[self.node] + 1)
        moves = index > 0
        column = self.view % NUM_HEADINGS
        index = np.maximum(index, 0)
        target = self._tables.target[self.node, column, index]
        view = self._tables.view[self.node, column, index]
        self.go(np.where(moves, target, self.node), np.where(moves, view, self.view))
        return self.observe()

    def observe(self) -> PanoramicObservation:
        """What the agents see now."""
        tables, node, column = self._tables, self.node, self.view % NUM_HEADINGS
        count = self.candidates.count[node] + 1
        k = int(count.max(initial=1))
        target = tables.target[node, column, :k].astype(np.int64)
        target[:, 0] = node
        found = target == self.graphs.next_hop(node, self.goal)[:, None]
        return PanoramicObservation(
            node=node,
            view=self.view,
            heading=self.heading,
            elevation=self.elevation,
            row=self.row,
            count=count,
            mask=np.arange(k) < count[:, None],
            target=target,
            candidate_view=tables.view[node, column, :k].astype(np.int64),
            rel_heading=tables.heading[node, column, :k],
            rel_elevation=tables.elevation[node, column, :k],
            candidate_angle=tables.angle[node, column, :k],
            teacher=found.argmax(axis=1),
            distance=self.graphs.distance(node, self.goal),
        )


class _SortedActions:
    """Neighbors of every node sorted by |relative heading| for the 12 headings, stop in front.

    All tables are (N, 12, K + 1); stop and padding hold -1, angles of 0 and zeros.
    """

    def __init__(self, found: Candidates) -> None:
        n, k = found.target.shape
        shape = (n, NUM_HEADINGS, k + 1)
        self.target = np.full(shape, -1, dtype=np.int32)
        self.view = np.full(shape, -1, dtype=np.int8)
        self.heading, self.elevation = np.zeros(shape), np.zeros(shape)
        self.angle = np.zeros((*shape, 4), dtype=np.float32)
        used = np.arange(k) < found.count[:, None]
        view = np.maximum(found.view, 0).astype(np.int64)
        inside = np.where(used, found.heading - VIEW_HEADINGS[view], 0.0)
        for column in range(NUM_HEADINGS):
            turn = VIEW_STEP * (relative_view(view, column) % NUM_HEADINGS)
            heading = canonical_angle(turn + inside)
            order = np.argsort(np.where(used, np.abs(heading), np.inf), axis=1, kind="stable")
            pick = (np.arange(n)[:, None], order)
            # Slots beyond the count sort to the end and are blank already in ``found``.
            self.target[:, column, 1:] = found.target[pick]
            self.view[:, column, 1:] = found.view[pick]
            self.heading[:, column, 1:] = np.where(used, heading, 0.0)[pick]
            self.elevation[:, column, 1:] = found.elevation[pick]
            encoded = angle_features(heading, found.elevation, 4) * used[..., None]
            self.angle[:, column, 1:] = encoded[pick]


@lru_cache(maxsize=4)
def _sorted_actions(found: Candidates) -> _SortedActions:
    return _SortedActions(found)


def write_navigable_locs(
    path: Path, graphs: Graphs, scans: Iterable[str] | None = None, camera: Camera | None = None
) -> None:
    """Write the authors' cache of neighbors, ``navigable_locs.json``."""
    found = candidates_of(graphs, camera)
    result: dict[str, dict[str, list[Any]]] = {}
    for scan in graphs.scans if scans is None else scans:
        result[scan] = {}
        for node in graphs.nodes_of(scan):
            neighbors: dict[str, dict[str, Any]] = {}
            by_view: dict[str, list[str]] = {}
            for j in range(found.count[node]):
                view = int(found.view[node, j])
                name = graphs.viewpoints[found.target[node, j]]
                neighbors[name] = {
                    "absViewIndex": view,
                    "nextViewpointId": name,
                    "loc_rel_heading": float(found.heading[node, j] - VIEW_HEADINGS[view]),
                    "loc_rel_elevation": float(found.elevation[node, j] - VIEW_ELEVATIONS[view]),
                    "distance": float(found.distance[node, j]),
                }
                by_view.setdefault(str(view), []).append(name)
            result[scan][graphs.viewpoints[node]] = [neighbors, by_view]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json_text(result))


def read_navigable_locs(path: Path, graphs: Graphs) -> Candidates:
    """Read ``navigable_locs.json`` into candidate tables for ``PanoramicEnvironment``.

    Viewpoints that the file lacks have no candidates. The slots in the simulator's list are not
    part of the file and are -1.

    Raises:
        SimulatorError: the file names an edge that the graph lacks, or lacks one.
    """
    n, k = graphs.neighbors.shape
    count = np.zeros(n, dtype=np.int64)
    target, view = np.full((n, k), -1, dtype=np.int32), np.full((n, k), -1, dtype=np.int16)
    heading, elevation, distance = np.zeros((3, n, k))
    for scan, viewpoints in read_json(path, "have it made again").items():
        for name, (neighbors, _) in viewpoints.items():
            node = graphs.node(scan, name)
            ahead = [graphs.node(scan, other) for other in neighbors]
            if set(ahead) != set(graphs.neighbors[node][: graphs.degree[node]].tolist()):
                raise SimulatorError(
                    f"{str(path)!r} lists other neighbors of {graphs.long_id(node)!r} than the "
                    "connectivity files; move it away to have it made again"
                )
            count[node] = len(ahead)
            target[node, : len(ahead)] = ahead
            for j, entry in enumerate(neighbors.values()):
                seen = view[node, j] = entry["absViewIndex"]
                heading[node, j] = VIEW_HEADINGS[seen] + entry["loc_rel_heading"]
                elevation[node, j] = VIEW_ELEVATIONS[seen] + entry["loc_rel_elevation"]
                distance[node, j] = entry["distance"]
    slot = np.full((n, k), -1, dtype=np.int16)
    return Candidates(count, target, view, slot, heading, elevation, distance)


def hanna_action_space(graphs: Graphs, scans: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """HANNA's ``panoramic_action_space.json``: actions of every viewpoint for the 12 headings.

    Keys are ``scan_viewpoint_column``; the first action of each list is to stop.
    """
    found = candidates_of(graphs)
    tables = _sorted_actions(found)
    result = {}
    for scan in scans:
        for node in graphs.nodes_of(scan):
            near = dict(zip(found.target[node], found.distance[node], strict=True))
            for column in range(NUM_HEADINGS):
                actions: list[dict[str, Any]] = [
                    {
                        "absViewIndex": column,
                        "relViewIndex": -1,
                        "nextViewpointId": graphs.viewpoints[node],
                    }
                ]
                for j in range(1, found.count[node] + 1):
                    view, target = tables.view[node, column, j], tables.target[node, column, j]
                    actions.append(
                        {
                            "absViewIndex": int(view),
                            "relViewIndex": int(relative_view(view, column)),
                            "nextViewpointId": graphs.viewpoints[target],
                            "rel_heading": float(tables.heading[node, column, j]),
                            "rel_elevation": float(tables.elevation[node, column, j]),
                            "distance": float(near[target]),
                        }
                    )
                result[f"{graphs.long_id(node)}_{column}"] = actions
    return result


STOP = 0


class NDHEnvironment(PanoramicEnvironment):
    """`PanoramicEnvironment` that keeps one pose a move of every agent that has not ended.

    An episode begins at the first viewpoint of its path, level; its teacher leads to the last one
    on the shortest way.
    """

    _taken: list[NDArray[np.bool_]]

    def reset(self, tasks: Sequence[Task]) -> PanoramicObservation:
        """Start one agent per task, at the first viewpoint of its path."""
        seen = super().reset(tasks)
        self._taken = [np.ones(len(self.node), dtype=bool)]
        return seen

    def step(self, action: ArrayLike, ended: ArrayLike = False) -> PanoramicObservation:
        """Take ``action`` (B,): 0 and -1 stay, others move.

        Agents that have ``ended`` (B,) may be moved, but their poses are no longer logged.
        """
        taken = ~self.check_ended(ended)
        seen = super().step(action)
        self._taken.append(taken)
        return seen

    def trajectories(self) -> list[list[Pose]]:
        """Walks in submission form: the start, and a pose for every move until the agent ended."""
        self._check_begun("trajectories")
        taken = np.stack(self._taken, axis=1)  # (B, steps + 1)
        return [
            [self._pose(n, v) for n, v in zip(nodes[keep], views[keep], strict=True)]
            for (nodes, views), keep in zip(self._logged(), taken, strict=True)
        ]
