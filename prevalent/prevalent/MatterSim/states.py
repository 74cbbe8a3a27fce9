"""States of MatterSim's environments, and the settings and rules that both interfaces share."""

# ruff: noqa: N802

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..simulator.geometry import (
    Camera,
    nearest_view,
    normalize_heading,
)
from ..simulator.graph import Graphs, SimulatorError
from .world import (
    ELEVATIONS,
    HEADINGS,
    ActionTypeError,
    NotStartedError,
    Places,
    Renderer,
    UnknownScanError,
    ViewPoint,
    count,
    default_dataset,
    finite,
    folder,
    number,
    open_graphs,
    sights_of,
    sign,
    switch,
    turned,
    whole,
)

Start = tuple[int, float, float]
"""Node, heading and elevation in radians."""
Action = tuple[int, float, float]
"""Position in the list of navigable places, and changes of heading and elevation."""


class SimState:
    """The state of one environment.

    ``rgb`` (H, W, 3), blue first, and ``depth`` (H, W, 1), in quarters of a millimeter, are drawn
    when they are first read after an action; they are None while rendering is off.
    """

    __slots__ = (
        "_depth",
        "_node",
        "_places",
        "_renderer",
        "_rgb",
        "_with_depth",
        "elevation",
        "heading",
        "scanId",
        "step",
        "viewIndex",
    )

    def __init__(self, renderer: Renderer | None, with_depth: bool) -> None:
        self._renderer, self._with_depth = renderer, with_depth
        self.scanId, self.step, self.viewIndex = "", 0, 0
        self.heading = self.elevation = 0.0
        self._node = -1
        self._places = Places((), ())
        self._rgb: NDArray[np.uint8] | None = None
        self._depth: NDArray[np.uint16] | None = None

    @property
    def location(self) -> ViewPoint:
        """The current viewpoint."""
        return self._places.viewpoints[0]

    @property
    def navigableLocations(self) -> list[ViewPoint]:
        """The current place, then those that an action may lead to, nearest to the axis first."""
        return list(self._places.viewpoints)

    @property
    def rgb(self) -> NDArray[np.uint8] | None:
        """The image of the view, None while rendering is off."""
        if self._rgb is None and self._renderer is not None:
            self._rgb = self._renderer.rgb(self._node, self.heading, self.elevation)
        return self._rgb

    @property
    def depth(self) -> NDArray[np.uint16] | None:
        """The depths of the view, None while rendering or depth is off."""
        if self._depth is None and self._renderer is not None and self._with_depth:
            self._depth = self._renderer.depth(self._node, self.heading, self.elevation)
        return self._depth

    def copy(self) -> SimState:
        """The same state, which later actions do not change."""
        other = SimState(self._renderer, self._with_depth)
        other.scanId, other.step, other.viewIndex = self.scanId, self.step, self.viewIndex
        other.heading, other.elevation = self.heading, self.elevation
        other._node, other._places = self._node, self._places
        other._rgb, other._depth = self._rgb, self._depth
        return other

    def __repr__(self) -> str:
        return (
            f"SimState(scanId={self.scanId!r}, viewpointId={self.location.viewpointId!r}, "
            f"viewIndex={self.viewIndex}, heading={self.heading:.4f}, "
            f"elevation={self.elevation:.4f}, step={self.step})"
        )


class Settings:
    """The settings of both versions, and a batch of environments that obeys them.

    Settings are fixed by ``initialize``; one that comes later is not obeyed, as in the original,
    and says so in a warning.
    """

    _multiples = False  # read discretized turns as multiples of 30 degrees, as in HANNA's build

    def __init__(self) -> None:
        self._width, self._height, self._vfov = 320, 240, 0.8
        self._limits = (-0.94, 0.94)
        self._discretized, self._restricted = False, True
        self._rendering, self._with_depth = True, False
        self._folder: Path | None = None
        self._dataset: Path | None = None
        self._seed, self._batch_size, self._kept = 1, 1, 16
        self._graphs: Graphs | None = None
        self._states: list[SimState] = []
        self._playing = False
        self.resetTimers()

    def _set(self, name: str, value: object) -> None:
        if self._graphs is not None:
            warnings.warn(
                f"a setting after initialize() is not obeyed ({name[1:]} stays "
                f"{getattr(self, name)!r}); call close() first",
                stacklevel=3,
            )
            return
        setattr(self, name, value)

    def setCameraResolution(self, width: int, height: int) -> None:
        """Image size in pixels."""
        _camera(width, height, self._vfov)
        self._set("_width", width)
        self._set("_height", height)

    def setCameraVFOV(self, vfov: float) -> None:
        """Vertical field of view in radians."""
        _camera(self._width, self._height, vfov)
        self._set("_vfov", vfov)

    def setRenderingEnabled(self, enabled: bool) -> None:
        """Draw ``rgb``, the default; skybox images are needed when it is read."""
        self._set("_rendering", switch("enabled", enabled))

    def setDepthEnabled(self, enabled: bool) -> None:
        """Draw ``depth`` too."""
        self._set("_with_depth", switch("enabled", enabled))

    def setDiscretizedViewingAngles(self, enabled: bool) -> None:
        """Snap to the 36 views."""
        self._set("_discretized", switch("enabled", enabled))

    def setElevationLimits(self, low: float, high: float) -> bool:
        """Limits of continuous mode in radians; False, and no change, if they are not allowed."""
        low, high = (number("elevation limit", one) for one in (low, high))
        allowed = bool(-np.pi / 2 < low < 0 < high < np.pi / 2)
        if allowed:
            self._set("_limits", (float(low), float(high)))
        return allowed

    def setNavGraphPath(self, path: str) -> None:
        """Folder of the connectivity files, ``./connectivity`` by default."""
        self._set("_folder", folder("setNavGraphPath", path))

    def setDatasetPath(self, path: str) -> None:
        """Folder of the scans' images: ``$MATTERPORT_DATA_DIR``, else ``./data/v1/scans``."""
        self._set("_dataset", folder("setDatasetPath", path))

    def setPreloadingEnabled(self, enabled: bool) -> None:
        """Accepted and without effect: images are read when they are first looked at."""
        switch("enabled", enabled)

    def setCacheSize(self, size: int) -> None:
        """Panoramas to keep in memory; 16 by default (200 in the original), about 5 MB each."""
        self._set("_kept", count("the cache size", size, 1))

    def setSeed(self, seed: int) -> None:
        """Seed of random starts, of this simulator alone."""
        self._set("_seed", count("the seed", seed, 0))

    def initialize(self) -> None:
        """Open the graphs, one object for all simulators on the same files; fixes the settings."""
        if self._graphs is not None:
            return
        graphs = open_graphs(self._folder)
        camera = _camera(self._width, self._height, self._vfov)
        renderer = None
        if self._rendering:
            renderer = Renderer(self._dataset or default_dataset(), graphs, camera, self._kept)
        self._sights = sights_of(graphs, camera, self._restricted)
        self._rng = np.random.default_rng(self._seed)
        self._states = [SimState(renderer, self._with_depth) for _ in range(self._batch_size)]
        self._graphs = graphs

    def close(self) -> None:
        """Let go of the graphs and images; ``initialize`` or an episode opens them again."""
        self._graphs, self._playing = None, False
        self._states = []

    def resetTimers(self) -> None:
        """Start timing afresh."""
        self._began, self._seconds, self._calls = time.perf_counter(), 0.0, 0

    def timingInfo(self) -> str:
        """How long actions and episodes took; images are drawn when read and count there."""
        wall = 1000 * (time.perf_counter() - self._began)
        process = 1000 * self._seconds
        return (
            f"Calls of newEpisode and makeAction: {self._calls}\n"
            f"Wall time: {wall:.3f} ms\nProcess time: {process:.3f} ms\n"
        )

    def _opened(self) -> Graphs:
        self.initialize()
        assert self._graphs is not None
        return self._graphs

    def _node(self, scan: str, viewpoint: str) -> int:
        """Node of a viewpoint, a random one for an empty id."""
        graphs = self._opened()
        if scan not in graphs.scans:
            raise UnknownScanError(
                f"scan {scan!r} has no connectivity file; there are {len(graphs.scans)} scans, "
                f"such as {graphs.scans[0]!r}"
            )
        if viewpoint == "":
            return int(self._rng.choice(graphs.nodes_of(scan)))
        return graphs.node(scan, viewpoint)

    def _start(self, starts: Sequence[Start]) -> None:
        began = time.perf_counter()
        graphs = self._opened()
        for state, (node, heading, elevation) in zip(self._states, starts, strict=True):
            state.scanId, state.step, state.viewIndex = graphs.scan_of(node), 0, 0
            self._face(state, node, heading, elevation)
        self._playing = True
        self._count(began)

    def _face(self, state: SimState, node: int, heading: float, elevation: float) -> None:
        if self._discretized:
            self._see(state, node, int(nearest_view(heading, elevation)))
            return
        state.heading = float(normalize_heading(heading))
        state.elevation = min(max(elevation, self._limits[0]), self._limits[1])
        state._node, state._rgb, state._depth = node, None, None
        state._places = self._sights.around(node, state.heading, state.elevation)

    def _see(self, state: SimState, node: int, view: int) -> None:
        state.viewIndex = view
        state.heading, state.elevation = HEADINGS[view], ELEVATIONS[view]
        state._node, state._rgb, state._depth = node, None, None
        state._places = self._sights.of_view(node, view)

    def _act(self, indices: Sequence, headings: Sequence, elevations: Sequence) -> None:
        """Take one action each; nothing changes unless all of them are possible."""
        began = time.perf_counter()
        self._check_playing("makeAction")
        actions = [
            self._checked(i, *action)
            for i, action in enumerate(zip(indices, headings, elevations, strict=True))
        ]
        for state, (index, right, up) in zip(self._states, actions, strict=True):
            state.step += 1
            node = state._places.nodes[index]
            if not self._discretized:
                self._face(state, node, state.heading + right, state.elevation + up)
            elif self._multiples:
                self._see(state, node, turned(state.viewIndex, int(right), int(up)))
            else:
                self._see(state, node, turned(state.viewIndex, sign(right), sign(up)))
        self._count(began)

    def _checked(self, i: int, index: object, heading: object, elevation: object) -> Action:
        listed = len(self._states[i]._places.nodes)
        chosen = whole(f"the action index of environment {i}", index)
        if not 0 <= chosen < listed:
            kind = ActionTypeError if chosen < 0 else SimulatorError
            raise kind(
                f"invalid action index {chosen} in environment {i} of {len(self._states)}; there "
                f"are {listed} navigable locations, 0 being the current one"
            )
        right = finite("heading change", heading, i)
        return chosen, right, finite("elevation change", elevation, i)

    def _check_playing(self, call: str) -> None:
        if not self._playing:
            raise NotStartedError(f"there is no episode; call newEpisode before {call}")

    def _count(self, began: float) -> None:
        self._seconds += time.perf_counter() - began
        self._calls += 1


def _camera(width: int, height: int, vfov: float) -> Camera:
    try:
        return Camera(width, height, vfov)
    except (TypeError, ValueError) as error:
        raise SimulatorError(str(error)) from None
