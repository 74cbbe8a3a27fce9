"""The batched simulator: MatterSim's states and actions without its C++ (Anderson et al., 2018)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .geometry import (
    NUM_HEADINGS,
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
        low, high = elevation_limits
        if not -np.pi / 2 < low < 0 < high < np.pi / 2:
            raise SimulatorError(
                f"elevation limits must enclose 0 within +-pi/2 radians, got ({low}, {high})"
            )
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
        nodes = [self.rng.choice(self.graphs.nodes_of(scan)) for scan in scans]
        self.start(np.array(nodes), self.rng.uniform(0, 2 * np.pi, len(nodes)), 0.0)

    def start(self, nodes: IntArray, headings: ArrayLike, elevations: ArrayLike = 0.0) -> None:
        """Place B agents on ``nodes`` (B,); angles in radians, (B,) or one for all."""
        self.node = np.array(nodes, dtype=np.int64)
        heading = np.broadcast_to(np.asarray(headings, np.float64), self.node.shape)
        elevation = np.broadcast_to(np.asarray(elevations, np.float64), self.node.shape)
        if not (np.isfinite(heading).all() and np.isfinite(elevation).all()):
            raise SimulatorError("headings and elevations must be finite")
        self.steps = np.zeros(len(self.node), dtype=np.int64)
        self.view = np.zeros(len(self.node), dtype=np.int64)
        self._face(heading, elevation)

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
            heading: (B,) radians to turn right. Discretized: one view in the direction of the sign,
                or so many views with ``turns="multiple"``.
            elevation: (B,) radians to tilt up, read like ``heading``.
        """
        index = np.asarray(index)
        if index.shape != self.node.shape or index.dtype.kind not in "iu":
            raise SimulatorError(
                f"the action index must be {len(self.node)} integers, got {index.dtype} of shape "
                f"{index.shape}"
            )
        self._move(index)
        self.steps += 1
        heading, elevation = np.asarray(heading), np.asarray(elevation)
        if self.discretized:
            self._turn(heading, elevation)
        else:
            self._face(self.heading + heading, self.elevation + elevation)

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
            right, up = np.trunc(heading), np.trunc(elevation)
        column = (self.view % NUM_HEADINGS + right.astype(np.int64)) % NUM_HEADINGS
        level = np.clip(self.view // NUM_HEADINGS + up.astype(np.int64), 0, 2)
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


# ruff: noqa: N802, N815


@dataclass(frozen=True)
class Location:
    """A viewpoint as seen from the current pose; angles in radians, lengths in meters."""

    viewpointId: str
    ix: int
    x: float
    y: float
    z: float
    rel_heading: float = 0.0
    rel_elevation: float = 0.0
    rel_distance: float = 0.0

    @property
    def point(self) -> list[float]:
        """Position as the first version has it."""
        return [self.x, self.y, self.z]


@dataclass(frozen=True)
class State:
    """The state of one environment."""

    scanId: str
    step: int
    viewIndex: int
    heading: float
    elevation: float
    location: Location
    navigableLocations: list[Location] = field(default_factory=list)
    rgb: None = None
    depth: None = None


class _Configurable:
    """Settings that both versions share; they take effect with ``initialize``."""

    def __init__(self) -> None:
        self._width, self._height, self._vfov = 320, 240, 0.8
        self._discretized = False
        self._restricted = True
        self._limits = (-0.94, 0.94)
        self._folder = Path("./connectivity")
        self._seed = 1
        self._turns: Turns = "sign"
        self._simulator: Simulator | None = None

    def setCameraResolution(self, width: int, height: int) -> None:
        """Image size in pixels."""
        self._width, self._height = width, height

    def setCameraVFOV(self, vfov: float) -> None:
        """Vertical field of view in radians."""
        self._vfov = vfov

    def setDiscretizedViewingAngles(self, enabled: bool) -> None:
        """Snap to the 36 views."""
        self._discretized = enabled

    def setElevationLimits(self, low: float, high: float) -> bool:
        """Limits of continuous mode in radians; False, and no change, if they are not allowed."""
        allowed = -np.pi / 2 < low < 0 < high < np.pi / 2
        if allowed:
            self._limits = (low, high)
        return allowed

    def setNavGraphPath(self, path: str) -> None:
        """Folder of the connectivity files."""
        self._folder = Path(path)

    def setDatasetPath(self, path: str) -> None:
        """Accepted and unused: there are no images to read."""

    def setRenderingEnabled(self, enabled: bool) -> None:
        """Only False is possible."""
        if enabled:
            raise SimulatorError(
                "this simulator renders no images; call setRenderingEnabled(False) and take views "
                "from prevalent.simulator.rendering or precomputed features"
            )

    def setSeed(self, seed: int) -> None:
        """Seed of random starts."""
        self._seed = seed

    def initialize(self) -> None:
        """Load the graphs; the settings are fixed from here on."""
        self._simulator = Simulator(
            Graphs.load(self._folder),
            Camera(self._width, self._height, self._vfov),
            discretized=self._discretized,
            restricted=self._restricted,
            turns=self._turns,
            elevation_limits=self._limits,
            seed=self._seed,
        )

    def _running(self) -> Simulator:
        if self._simulator is None:
            self.initialize()
        assert self._simulator is not None
        return self._simulator

    def _start(
        self, scans: Sequence[str], names: Sequence[str], headings: object, elevations: object
    ) -> None:
        simulator = self._running()
        graphs = simulator.graphs
        pairs = zip(scans, names, strict=True)
        nodes = [
            graphs.node(scan, name) if name else simulator.rng.choice(graphs.nodes_of(scan))
            for scan, name in pairs
        ]
        simulator.start(np.array(nodes), np.asarray(headings), np.asarray(elevations))

    def _states(self) -> list[State]:
        simulator = self._running()
        graphs, seen = simulator.graphs, simulator.navigable()
        states = []
        for i, node in enumerate(simulator.node.tolist()):
            places = []
            for j, place in enumerate(seen.node[i, : seen.count[i]].tolist()):
                x, y, z = graphs.positions[place].astype(np.float32).tolist()
                angles = float(seen.heading[i, j]), float(seen.elevation[i, j])
                name, ix = graphs.viewpoints[place], int(graphs.location[place])
                places.append(Location(name, ix, x, y, z, *angles, float(seen.distance[i, j])))
            states.append(
                State(
                    graphs.scan_of(node),
                    int(simulator.steps[i]),
                    int(simulator.view[i]),
                    float(simulator.heading[i]),
                    float(simulator.elevation[i]),
                    places[0],
                    places,
                )
            )
        return states


class SingleSimulator(_Configurable):
    """One environment with the calls of MatterSim's first version."""

    def init(self) -> None:
        """Same as ``initialize``."""
        self.initialize()

    def newEpisode(
        self, scanId: str, viewpointId: str = "", heading: float = 0.0, elevation: float = 0.0
    ) -> None:
        """Start at a viewpoint, a random one if its id is empty; angles in radians."""
        self._start([scanId], [viewpointId], [heading], [elevation])

    def makeAction(self, index: int, heading: float, elevation: float) -> None:
        """Go to a navigable location (0 stays), then turn."""
        self._running().step(np.array([index]), np.array([heading]), np.array([elevation]))

    def getState(self) -> State:
        """A snapshot of the current state."""
        return self._states()[0]


class BatchSimulator(_Configurable):
    """B environments with the calls of MatterSim's second version.

    Args:
        hanna: read discretized turns as multiples of 30 degrees, as in HANNA's build.
    """

    def __init__(self, hanna: bool = False) -> None:
        super().__init__()
        self._turns = "multiple" if hanna else "sign"
        self._batch_size = 1
        self._seconds = 0.0
        self._calls = 0

    def setBatchSize(self, size: int) -> None:
        """B."""
        if size < 1:
            raise SimulatorError(f"the batch size must be at least 1, got {size}")
        self._batch_size = size

    def setRestrictedNavigation(self, restricted: bool) -> None:
        """List only neighbors in view, or all."""
        self._restricted = restricted

    def setDepthEnabled(self, enabled: bool) -> None:
        """Only False is possible."""
        self.setRenderingEnabled(enabled)

    def setCacheSize(self, size: int) -> None:
        """Accepted and unused: there are no images to keep."""

    def setPreloadingEnabled(self, enabled: bool) -> None:
        """Accepted and unused: there are no images to load."""

    def newEpisode(
        self,
        scanIds: Sequence[str],
        viewpointIds: Sequence[str],
        headings: Sequence[float],
        elevations: Sequence[float],
    ) -> None:
        """Start B episodes; an empty viewpoint id means a random one. Angles in radians."""
        self._check("scanId", scanIds)
        self._start(scanIds, viewpointIds, headings, elevations)

    def newRandomEpisode(self, scanIds: Sequence[str]) -> None:
        """Start B episodes at random viewpoints with random headings on the horizon."""
        self._check("scanId", scanIds)
        self._running().new_random_episode(scanIds)

    def makeAction(
        self, indices: Sequence[int], headings: Sequence[float], elevations: Sequence[float]
    ) -> None:
        """Go to a navigable location each (0 stays), then turn."""
        self._check("index", indices)
        began = time.perf_counter()
        self._running().step(np.asarray(indices), np.asarray(headings), np.asarray(elevations))
        self._seconds += time.perf_counter() - began
        self._calls += 1

    def getState(self) -> list[State]:
        """Snapshots of the current states."""
        return self._states()

    def close(self) -> None:
        """Forget the graphs."""
        self._simulator = None

    def resetTimers(self) -> None:
        """Start timing afresh."""
        self._seconds, self._calls = 0.0, 0

    def timingInfo(self) -> str:
        """Time spent in ``makeAction``."""
        return f"makeAction: {self._calls} calls, {1000 * self._seconds:.3f} ms"

    def _check(self, what: str, values: Sequence) -> None:
        if len(values) != self._batch_size:
            raise SimulatorError(
                f"{len(values)} values of {what} for a batch of {self._batch_size}; call "
                "setBatchSize first"
            )
