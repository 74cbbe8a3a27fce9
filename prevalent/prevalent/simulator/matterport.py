"""The Python API of MatterSim, so that code written for the C++ simulator runs on this one.

``SingleSimulator`` has the calls of the first version (one environment, used by R2R-EnvDrop),
``BatchSimulator`` those of the second. Deviation: ``getState`` always returns snapshots, every
simulator has its own graphs and random numbers, and nothing is rendered.
"""

# ruff: noqa: N802, N815

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .geometry import Camera
from .graph import Graphs, SimulatorError
from .simulator import Simulator, Turns


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
