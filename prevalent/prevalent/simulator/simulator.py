"""The batched simulator: MatterSim's states and actions without its C++ (Anderson et al., 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .geometry import (
    NUM_HEADINGS,
    NUM_LEVELS,
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    Camera,
    FloatArray,
    IntArray,
    nearest_view,
    normalize_heading,
)
from .graph import (
    Float32Array,
    Graphs,
    SimulatorError,
    ViewTables,
    as_array,
    look,
    nearness,
    offsets_to_neighbors,
    view_tables,
    visible,
)

Turns = Literal["sign", "multiple"]


@dataclass(frozen=True)
class Navigable:
    """Places an action may lead to: the current one first, then the nearest to the view axis."""

    node: IntArray  # (B, K) -1 beyond ``count``
    heading: FloatArray  # (B, K) radians to the right of the heading
    elevation: FloatArray  # (B, K) radians above the elevation
    distance: FloatArray  # (B, K) meters
    count: IntArray  # (B,) at least 1


class Simulator:
    """B agents on navigation graphs, stepped together by table look-ups.

    Args:
        graphs: the scans.
        camera: decides which neighbors are in view.
        discretized: headings and elevations snap to the 36 views; otherwise they are continuous.
        restricted: list only neighbors in view; otherwise all.
        turns: how discretized turns are read, as signs (R2R, NDH) or as multiples of 30 degrees
            (HANNA).
        elevation_limits: of continuous mode, radians.
        seed: of random starts; every simulator has its own generator.

    The state is public: ``node``, ``heading``, ``elevation``, ``view`` and ``steps``, each (B,).
    ``view`` has no meaning in continuous mode and stays as it was.
    """

    def __init__(
        self,
        graphs: Graphs,
        camera: Camera | None = None,
        *,
        discretized: bool = True,
        restricted: bool = True,
        turns: Turns = "sign",
        elevation_limits: tuple[float, float] = (-0.94, 0.94),
        seed: int = 0,
    ) -> None:
        limits = as_array(elevation_limits)
        if (
            limits.shape != (2,)
            or limits.dtype.kind not in "iuf"
            or not (-np.pi / 2 < limits[0] < 0 < limits[1] < np.pi / 2)
        ):
            raise SimulatorError(
                f"elevation limits must enclose 0 within +-pi/2 radians, got {elevation_limits!r}"
            )
        if not isinstance(graphs, Graphs) or not isinstance(camera, Camera | None):
            raise SimulatorError(
                f"a simulator takes Graphs and a Camera or None, got {graphs!r} and {camera!r}"
            )
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise SimulatorError(f"the seed must be a whole number from 0 on, got {seed!r}")
        if turns not in ("sign", "multiple"):
            raise SimulatorError(f"turns must be 'sign' or 'multiple', got {turns!r}")
        self.graphs = graphs
        self.camera = camera or Camera()
        self.discretized = discretized
        self.restricted = restricted
        self.turns: Turns = turns
        self.elevation_limits = elevation_limits
        self.rng = np.random.default_rng(seed)
        self._tables = view_tables(graphs, self.camera, restricted) if discretized else None
        self._offset = np.zeros(0, np.float32) if discretized else offsets_to_neighbors(graphs)
        self._seen: Navigable | None = None
        self.start(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))

    def new_episode(
        self,
        scans: Sequence[str],
        viewpoints: Sequence[str],
        headings: ArrayLike,
        elevations: ArrayLike = 0.0,
    ) -> None:
        """Place B agents; raises ``SimulatorError`` for a scan or viewpoint that does not exist.

        ``headings`` and ``elevations`` are radians, (B,) or one for all.
        """
        nodes = self.graphs.nodes(scans, viewpoints)
        self.start(nodes, headings, elevations)

    def new_random_episode(self, scans: Sequence[str]) -> None:
        """Place one agent per scan at a random included viewpoint with a random heading."""
        if isinstance(scans, str) or not hasattr(scans, "__len__"):
            raise SimulatorError(f"scans must be a list of names, got {scans!r}")
        places = [self.graphs.nodes_of(scan) for scan in scans]
        nodes = [self.rng.choice(found) for found in places]
        self.start(np.array(nodes), self.rng.uniform(0, 2 * np.pi, len(nodes)), 0.0)

    def start(self, nodes: ArrayLike, headings: ArrayLike, elevations: ArrayLike = 0.0) -> None:
        """Place B agents on ``nodes`` (B,); angles in radians, (B,) or one for all.

        Raises:
            SimulatorError: a node that is none of an included viewpoint, or angles that are not
                finite or not B; nothing has changed then.
        """
        node = self._check_nodes(as_array(nodes))
        heading = _check_angles("headings", headings, len(node))
        elevation = _check_angles("elevations", elevations, len(node))
        self.node = node
        self.steps = np.zeros(len(node), dtype=np.int64)
        self.view = np.zeros(len(node), dtype=np.int64)
        self._face(heading, elevation)

    def _check_nodes(self, nodes: NDArray) -> IntArray:
        if nodes.ndim != 1 or (len(nodes) and nodes.dtype.kind not in "iu"):
            raise SimulatorError(
                f"nodes must be a list of integers, got {nodes.dtype} of shape {nodes.shape}"
            )
        nodes = nodes.astype(np.int64)
        known = len(self.graphs.viewpoints)
        bad = (nodes < 0) | (nodes >= known)
        if bad.any():
            i = int(bad.argmax())
            raise SimulatorError(
                f"node {nodes[i]} of agent {i} is out of range; the graphs have nodes 0 to "
                f"{known - 1}"
            )
        excluded = ~self.graphs.included[nodes]
        if excluded.any():
            i = int(excluded.argmax())
            raise SimulatorError(
                f"node {nodes[i]} of agent {i} is viewpoint {self.graphs.long_id(nodes[i])!r}, "
                "which is excluded"
            )
        return nodes

    def _face(self, heading: FloatArray, elevation: FloatArray) -> None:
        self._seen = None
        if self.discretized:
            self.view = nearest_view(heading, elevation)
            self.heading, self.elevation = VIEW_HEADINGS[self.view], VIEW_ELEVATIONS[self.view]
        else:
            self.heading = normalize_heading(heading)
            self.elevation = np.clip(elevation, *self.elevation_limits)

    def step(self, index: ArrayLike, heading: ArrayLike, elevation: ArrayLike) -> None:
        """Move to a navigable place, then turn.

        Args:
            index: (B,) position in ``navigable()``; 0 stays.
            heading: (B,) radians to turn right, or one for all. Discretized: one view in the
                direction of the sign, or so many views with ``turns="multiple"``.
            elevation: (B,) radians to tilt up, read like ``heading``.

        Raises:
            SimulatorError: an index that is out of range, or angles that are not finite or not B;
                nothing has changed then.
        """
        index = as_array(index)
        if index.shape != self.node.shape or index.dtype.kind not in "iu":
            raise SimulatorError(
                f"the action index must be {len(self.node)} integers, got {index.dtype} of shape "
                f"{index.shape}"
            )
        right = _check_angles("heading changes", heading, len(index))
        up = _check_angles("elevation changes", elevation, len(index))
        self._move(index)
        self.steps += 1
        if self.discretized:
            self._turn(right, up)
        else:
            self._face(self.heading + right, self.elevation + up)

    def _move(self, index: IntArray) -> None:
        if self._tables is not None:
            count = self._tables.count[self.node, self.view].astype(np.int64)
            self._check(index, count + 1)
            slot = self._tables.order[self.node, self.view, np.maximum(index, 1) - 1]
            target = self.graphs.neighbors[self.node, slot]
            self.node = np.where(index > 0, target, self.node)
        else:
            listed = self.navigable()
            self._check(index, listed.count)
            self.node = listed.node[np.arange(len(index)), index]

    def _check(self, index: IntArray, count: IntArray) -> None:
        bad = (index < 0) | (index >= count)
        if bad.any():
            i = int(bad.argmax())
            raise SimulatorError(
                f"action index {index[i]} of agent {i} at viewpoint "
                f"{self.graphs.long_id(self.node[i])!r} is out of range; there are {count[i]} "
                "navigable locations, 0 being the current one"
            )

    def _turn(self, heading: NDArray, elevation: NDArray) -> None:
        if self.turns == "sign":
            right, up = np.sign(heading), np.sign(elevation)
        else:
            right = np.fmod(np.trunc(heading), NUM_HEADINGS)
            up = np.clip(np.trunc(elevation), 1 - NUM_LEVELS, NUM_LEVELS - 1)
        column = (self.view % NUM_HEADINGS + right.astype(np.int64)) % NUM_HEADINGS
        level = self.view // NUM_HEADINGS + up.astype(np.int64)
        level = np.minimum(np.maximum(level, 0), NUM_LEVELS - 1)  # half the time of np.clip
        self.view = column + NUM_HEADINGS * level
        self.heading, self.elevation = VIEW_HEADINGS[self.view], VIEW_ELEVATIONS[self.view]
        self._seen = None

    @property
    def position(self) -> Float32Array:
        """Positions (B, 3) in meters, z up, in the float32 that MatterSim keeps."""
        return self.graphs.positions[self.node].astype(np.float32)

    def navigable(self) -> Navigable:
        """Places the next action may lead to, for every agent."""
        if self._seen is None:
            self._seen = self._look_up(self._tables) if self._tables else self._look_around()
        return self._seen

    def _look_up(self, tables: ViewTables) -> Navigable:
        node, view = self.node[:, None], self.view[:, None]
        slot = tables.order[self.node, self.view]  # (B, K)
        return self._listed(
            tables.count[self.node, self.view],
            self.graphs.neighbors[node, slot],
            tables.heading[node, view % NUM_HEADINGS, slot],
            tables.elevation[node, view // NUM_HEADINGS, slot],
            tables.distance[node, slot],
        )

    def _look_around(self) -> Navigable:
        offset = self._offset[self.node]
        sight = look(offset, self.heading[:, None], self.elevation[:, None])
        listed = visible(sight, self.camera, self.restricted)
        listed &= self.graphs.neighbors[self.node] >= 0
        slot = np.argsort(np.where(listed, nearness(sight), np.inf), axis=1, kind="stable")
        pick = (np.arange(len(slot))[:, None], slot)
        distance = np.sqrt((offset * offset).sum(axis=-1, dtype=np.float32))
        return self._listed(
            listed.sum(axis=1),
            self.graphs.neighbors[self.node][pick],
            sight.heading[pick],
            sight.elevation[pick],
            distance[pick],
        )

    def _listed(
        self,
        count: NDArray[np.integer],
        neighbors: NDArray[np.int32],
        heading: FloatArray,
        elevation: FloatArray,
        distance: Float32Array,
    ) -> Navigable:
        """Put the current place in front and blank the slots beyond ``count``."""
        batch, width = neighbors.shape
        used = np.arange(width) < count[:, None]
        node = np.empty((batch, width + 1), dtype=np.int64)
        node[:, 0] = self.node
        node[:, 1:] = np.where(used, neighbors, -1)
        seen = np.zeros((3, batch, width + 1))
        seen[0, :, 1:] = heading * used
        seen[1, :, 1:] = elevation * used
        seen[2, :, 1:] = distance * used
        return Navigable(node, seen[0], seen[1], seen[2], count.astype(np.int64) + 1)


def _check_angles(what: str, given: ArrayLike, batch: int) -> FloatArray:
    """Angles (B,) in radians; raises ``SimulatorError`` unless there are B or one, all finite."""
    angles = as_array(given)
    if angles.dtype.kind not in "iuf":
        raise SimulatorError(f"{what} must be {batch} numbers or one, got {given!r}")
    if angles.shape not in ((batch,), ()):
        raise SimulatorError(
            f"{what} must be {batch} numbers or one for all, got an array of shape {angles.shape}"
        )
    if not np.isfinite(angles).all():
        i = int(np.isfinite(np.atleast_1d(angles)).argmin())
        raise SimulatorError(f"{what} must be finite, got {np.atleast_1d(angles)[i]} for agent {i}")
    angles = angles.astype(np.float64)
    return angles if angles.shape else np.full(batch, angles)
