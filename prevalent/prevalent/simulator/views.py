"""Which neighbors are in view from a pose, and tables of the answer for the 36 views."""

import math
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .geometry import NUM_HEADINGS, NUM_VIEWS, VIEW_ELEVATIONS, VIEW_STEP, Camera, FloatArray
from .graph import Graphs

Float32Array = NDArray[np.float32]


class Sight(NamedTuple):
    """Neighbors as seen from a pose."""

    heading: FloatArray  # (...) radians to the right of the viewing direction
    elevation: FloatArray  # (...) radians above the viewing direction
    facing: Float32Array  # (...) cosine between the neighbor's and the viewing direction


def offsets_to_neighbors(graphs: Graphs) -> Float32Array:
    """Vectors (N, K, 3) in meters to every neighbor, zeros in unused slots.

    Positions are rounded to float32 first: the original keeps them so.
    """
    position = graphs.positions.astype(np.float32)
    offset = position[graphs.neighbors] - position[:, None]
    offset[graphs.neighbors < 0] = 0
    return offset


def look(offset: Float32Array, heading: ArrayLike, elevation: ArrayLike) -> Sight:
    """Direction of points at ``offset`` (..., 3) for poses that broadcast against (...).

    The products are float32 and the angles float64, as in MatterSim.
    """
    heading = np.asarray(heading, dtype=np.float64)
    camera_x = np.cos(math.pi / 2 - heading).astype(np.float32)
    camera_y = np.sin(math.pi / 2 - heading).astype(np.float32)
    x, y, z = offset[..., 0], offset[..., 1], offset[..., 2]
    forward = x * camera_x + y * camera_y
    aside = x * camera_y - y * camera_x
    flat = np.sqrt(x * x + y * y)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.float32(1) / flat
        facing = ((x * inverse) * camera_x + (y * inverse) * camera_y).astype(np.float32)
    right = np.arctan2(aside.astype(np.float64), forward.astype(np.float64))
    up = np.arctan2(z.astype(np.float64), flat.astype(np.float64))
    return Sight(right, up - np.asarray(elevation, dtype=np.float64), facing)


def visible(sight: Sight, camera: Camera, restricted: bool) -> NDArray[np.bool_]:
    """Whether a neighbor is listed: inside the horizontal field of view, at any elevation.

    With ``restricted=False`` every neighbor is listed.
    """
    if not restricted:
        return np.ones(sight.facing.shape, dtype=bool)
    return sight.facing.astype(np.float64) >= math.cos(camera.half_angle)


def nearness(sight: Sight) -> FloatArray:
    """Angle between viewing direction and neighbor in radians, by which neighbors are ordered."""
    return np.sqrt(sight.heading**2 + sight.elevation**2)


@dataclass(frozen=True)
class ViewTables:
    """Navigable neighbors of every node in every view; K is the largest degree."""

    count: NDArray[np.int8]  # (N, 36) neighbors in view
    order: NDArray[np.int8]  # (N, 36, K) slots of ``Graphs.neighbors``, nearest first
    heading: FloatArray  # (N, 12, K) relative heading by column and slot
    elevation: FloatArray  # (N, 3, K) relative elevation by level and slot
    distance: Float32Array  # (N, K) meters by slot


_tables: WeakKeyDictionary[Graphs, dict[tuple[Camera, bool], ViewTables]] = WeakKeyDictionary()


def view_tables(graphs: Graphs, camera: Camera, restricted: bool = True) -> ViewTables:
    """Tables of ``graphs`` for one camera, built once (0.5 s for the 90 scans)."""
    known = _tables.setdefault(graphs, {})
    key = (camera, restricted)
    if key not in known:
        known[key] = _build_tables(graphs, camera, restricted)
    return known[key]


def _build_tables(graphs: Graphs, camera: Camera, restricted: bool) -> ViewTables:
    offset = offsets_to_neighbors(graphs)  # (N, K, 3)
    used = graphs.neighbors >= 0
    n, k = used.shape
    count = np.zeros((n, NUM_VIEWS), dtype=np.int8)
    order = np.zeros((n, NUM_VIEWS, k), dtype=np.int8)
    heading = np.zeros((n, NUM_HEADINGS, k))
    elevation = np.zeros((n, NUM_VIEWS // NUM_HEADINGS, k))
    flat = look(offset, 0.0, 0.0).elevation
    for level in range(NUM_VIEWS // NUM_HEADINGS):
        elevation[:, level] = flat - VIEW_ELEVATIONS[level * NUM_HEADINGS]
    for column in range(NUM_HEADINGS):
        sight = look(offset, column * VIEW_STEP, 0.0)
        listed = visible(sight, camera, restricted) & used
        heading[:, column] = sight.heading
        for level in range(NUM_VIEWS // NUM_HEADINGS):
            view = level * NUM_HEADINGS + column
            near = nearness(sight._replace(elevation=elevation[:, level]))
            order[:, view] = np.argsort(np.where(listed, near, np.inf), axis=1, kind="stable")
            count[:, view] = listed.sum(axis=1)
    distance = np.sqrt((offset * offset).sum(axis=-1, dtype=np.float32))
    return ViewTables(count, order, heading, elevation, distance)
