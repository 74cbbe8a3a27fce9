"""What MatterSim's simulators share: where scans lie, what is seen from a pose, and pixels.

Nothing here belongs to one simulator, so that sixty-four of them cost as much as one.
"""

from __future__ import annotations

import math
import operator
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..simulator.geometry import (
    NUM_HEADINGS,
    NUM_LEVELS,
    VIEW_ELEVATIONS,
    VIEW_HEADINGS,
    Camera,
    FloatArray,
)
from ..simulator.graph import Graphs, SimulatorError, look, nearness, shared_graphs, visible
from ..simulator.rendering import (
    load_depth,
    load_skybox,
    perpendicular_depth,
    sample_skybox,
    view_rays,
)

DATASET = "./data/v1/scans/"
KEPT_POSES = 16_384
"""Poses whose navigable places are kept per camera: about 20 MB."""

HEADINGS: list[float] = VIEW_HEADINGS.tolist()
ELEVATIONS: list[float] = VIEW_ELEVATIONS.tolist()


class NotStartedError(SimulatorError, RuntimeError):
    """A state or an action was asked for before an episode; MatterSim raises RuntimeError."""


class UnknownScanError(SimulatorError, IndexError):
    """A scan without connectivity file; MatterSim's second version raises IndexError."""


class ActionTypeError(SimulatorError, TypeError):
    """An argument of the wrong type or a negative index; MatterSim's second version: TypeError."""


class ViewPoint(NamedTuple):
    """A viewpoint as seen from the current pose; angles in radians, lengths in meters."""

    viewpointId: str  # noqa: N815
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


class Places(NamedTuple):
    """Where the next action may lead to: the current place first, then the nearest to the axis."""

    nodes: tuple[int, ...]
    viewpoints: tuple[ViewPoint, ...]


class Sights:
    """Navigable places of every pose with one camera, worked out when they are first asked for.

    Args:
        graphs: the scans; they are read here and not kept.
        camera: decides which neighbors are in view.
        restricted: list only neighbors in view, otherwise all.
    """

    def __init__(self, graphs: Graphs, camera: Camera, restricted: bool) -> None:
        self._names, self._location = graphs.viewpoints, graphs.location
        self._neighbors, self._degree = graphs.neighbors, graphs.degree
        self._position = graphs.positions.astype(np.float32)
        self._camera, self._restricted = camera, restricted
        self.of_view = lru_cache(maxsize=KEPT_POSES)(self._of_view)

    def _of_view(self, node: int, view: int) -> Places:
        return self.around(node, HEADINGS[view], ELEVATIONS[view])

    def around(self, node: int, heading: float, elevation: float) -> Places:
        """Places seen from ``node``; angles in radians."""
        near = self._neighbors[node, : self._degree[node]].astype(np.int64)
        offset = self._position[near] - self._position[node]
        sight = look(offset, heading, elevation)
        listed = np.flatnonzero(visible(sight, self._camera, self._restricted))
        order = listed[np.argsort(nearness(sight)[listed], kind="stable")]
        length = np.sqrt((offset * offset).sum(axis=-1, dtype=np.float32))
        angles = zip(sight.heading[order], sight.elevation[order], length[order], strict=True)
        nodes = (node, *near[order].tolist())
        seen = [(0.0, 0.0, 0.0), *(tuple(map(float, three)) for three in angles)]
        places = zip(nodes, seen, strict=True)
        return Places(nodes, tuple(self._viewpoint(other, *three) for other, three in places))

    def _viewpoint(self, node: int, *seen: float) -> ViewPoint:
        position = self._position[node].tolist()
        return ViewPoint(self._names[node], int(self._location[node]), *position, *seen)


_sights: WeakKeyDictionary[Graphs, dict[tuple[Camera, bool], Sights]] = WeakKeyDictionary()


def sights_of(graphs: Graphs, camera: Camera, restricted: bool) -> Sights:
    """The one ``Sights`` of ``graphs`` for a camera."""
    known = _sights.setdefault(graphs, {})
    key = (camera, restricted)
    if key not in known:
        known[key] = Sights(graphs, camera, restricted)
    return known[key]


def turned(view: int, right: int, up: int) -> int:
    """View after turns by multiples of 30 degrees; the level stays within the three."""
    level = min(max(view // NUM_HEADINGS + up, 0), NUM_LEVELS - 1)
    return (view + right) % NUM_HEADINGS + NUM_HEADINGS * level


def sign(value: float) -> int:
    """-1, 0 or 1."""
    return (value > 0) - (value < 0)


def open_graphs(folder: Path | None) -> Graphs:
    """The shared graphs of a folder of connectivity files.

    Without a folder ``./connectivity`` is taken as in the original, else the folder
    ``connectivity`` in ``$MATTERPORT_DATA_DIR`` or ``$PREVALENT_DATA``.

    Raises:
        SimulatorError: there is no such folder, or no connectivity file in it.
    """
    places = [folder] if folder else _usual_places()
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        tried = " or ".join(repr(str(place)) for place in places)
        raise SimulatorError(
            f"there is no folder {tried}; name the folder of the connectivity files with "
            "setNavGraphPath or fetch them with `prevalent prepare connectivity`"
        )
    try:
        return shared_graphs(found)
    except FileNotFoundError as error:
        raise SimulatorError(str(error)) from None


def _usual_places() -> list[Path]:
    roots = [os.environ.get(name) for name in ("MATTERPORT_DATA_DIR", "PREVALENT_DATA")]
    return [Path("connectivity"), *(Path(root) / "connectivity" for root in roots if root)]


def default_dataset() -> Path:
    """Folder of the scans' images: ``$MATTERPORT_DATA_DIR``, else ``./data/v1/scans``."""
    return Path(os.environ.get("MATTERPORT_DATA_DIR") or DATASET)


class Renderer:
    """Pixels of poses, from skybox images on the disk.

    Args:
        folder: has ``SCAN/matterport_skybox_images/VIEWPOINT_skybox_small.jpg``, and for depths
            ``..._skybox_depth_small.png``.
        graphs: how the skybox of a viewpoint is turned.
        camera: size and field of view of the images.
        kept: panoramas to keep in memory.
    """

    def __init__(self, folder: Path, graphs: Graphs, camera: Camera, kept: int) -> None:
        self._folder, self._graphs, self._camera = folder, graphs, camera
        self._colors = lru_cache(maxsize=kept)(self._read_colors)
        self._depths = lru_cache(maxsize=kept)(self._read_depths)

    def _place(self, node: int) -> tuple[Path, str]:
        folder = self._folder / self._graphs.scan_of(node) / "matterport_skybox_images"
        return folder, self._graphs.viewpoints[node]

    def _read_colors(self, node: int) -> NDArray[np.uint8]:
        return load_skybox(*self._place(node))

    def _read_depths(self, node: int) -> NDArray[np.uint16]:
        return load_depth(*self._place(node))

    def _rays(self, node: int, heading: float, elevation: float) -> tuple[FloatArray, FloatArray]:
        rays = view_rays(heading, elevation, self._camera)
        return rays, rays @ self._graphs.rotations[node]

    def rgb(self, node: int, heading: float, elevation: float) -> NDArray[np.uint8]:
        """Colors (H, W, 3), blue first as in the original."""
        _, local = self._rays(node, heading, elevation)
        return np.ascontiguousarray(sample_skybox(self._colors(node), local)[..., ::-1])

    def depth(self, node: int, heading: float, elevation: float) -> NDArray[np.uint16]:
        """Depths (H, W, 1) from the image plane in quarters of a millimeter."""
        rays, local = self._rays(node, heading, elevation)
        return perpendicular_depth(self._depths(node), rays, local)


def finite(what: str, value: object, i: int) -> float:
    """``value`` in radians; raises ``SimulatorError`` unless it is a finite number."""
    given = number(f"{what} of environment {i}", value)
    if not math.isfinite(given):
        raise SimulatorError(f"the {what} of environment {i} must be finite, got {given}")
    return given


def number(what: str, value: object) -> float:
    """``value`` as a float; raises ``ActionTypeError`` where it is none."""
    try:
        if isinstance(value, str | bool | np.bool_):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise ActionTypeError(f"the {what} must be a number, got {value!r}") from None


def whole(what: str, value: object) -> int:
    """``value`` as an int; raises ``ActionTypeError`` where it is none."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ActionTypeError(f"{what} must be an integer, got {value!r}") from None


def count(what: str, value: object, least: int) -> int:
    """``value`` as an int from ``least`` on; ``SimulatorError`` otherwise."""
    given = whole(what, value)
    if given < least:
        raise SimulatorError(f"{what} must be at least {least}, got {given}")
    return given


def switch(what: str, value: object) -> bool:
    """``value``, which must be True or False (or 1 or 0); ``ActionTypeError`` otherwise."""
    if not isinstance(value, bool | np.bool_ | int) or value not in (0, 1):
        raise ActionTypeError(f"{what} must be True or False, got {value!r}")
    return bool(value)


def folder(call: str, path: object) -> Path:
    """``path`` of a setting; ``ActionTypeError`` where it is none."""
    if not isinstance(path, str | os.PathLike) or path == "":
        raise ActionTypeError(f"{call} takes the path of a folder, got {path!r}")
    return Path(path)
