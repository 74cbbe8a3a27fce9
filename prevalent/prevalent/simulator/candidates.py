"""Candidates: for every viewpoint, its neighbors and the view that shows each best.

The original turns a simulator through the 36 views at the first visit of a viewpoint; here all
viewpoints are done at once from the view tables.
"""

from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from .geometry import NUM_HEADINGS, NUM_VIEWS, VIEW_ELEVATIONS, VIEW_HEADINGS, Camera, FloatArray
from .graph import Graphs
from .views import view_tables

UNSEEN = np.iinfo(np.int64).max  # later than every (view, position) of the sweep


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidates of all nodes; slots beyond ``count`` hold -1 in the integer tables.

    The order is that of the first sighting in the sweep over views 0..35, not of the best view.
    """

    count: NDArray[np.int64]  # (N,)
    target: NDArray[np.int32]  # (N, K) node
    view: NDArray[np.int16]  # (N, K) view in which the neighbor is nearest to the axis
    slot: NDArray[np.int16]  # (N, K) its position in ``Simulator.navigable()`` in that view
    heading: FloatArray  # (N, K) absolute heading in radians, not wrapped
    elevation: FloatArray  # (N, K) absolute elevation in radians
    distance: FloatArray  # (N, K) angle to the axis of that view in radians


_known: WeakKeyDictionary[Graphs, dict[Camera, Candidates]] = WeakKeyDictionary()


def candidates_of(graphs: Graphs, camera: Camera | None = None) -> Candidates:
    """Candidates of every node of ``graphs``, built once per camera (0.3 s for the 90 scans)."""
    camera = camera or Camera()
    known = _known.setdefault(graphs, {})
    if camera not in known:
        known[camera] = _build_candidates(graphs, camera)
    return known[camera]


def _build_candidates(graphs: Graphs, camera: Camera) -> Candidates:
    tables = view_tables(graphs, camera)
    n, k = graphs.neighbors.shape
    best = np.full((n, k), np.inf)
    view_of, slot_of = np.full((n, k), -1, np.int16), np.full((n, k), -1, np.int16)
    first = np.full((n, k), UNSEEN, dtype=np.int64)
    for view in range(NUM_VIEWS):
        column, level = view % NUM_HEADINGS, view // NUM_HEADINGS
        order = tables.order[:, view].astype(np.int64)
        rank = np.empty_like(order)  # of each neighbor among those in this view
        np.put_along_axis(rank, order, np.arange(k)[None], axis=1)
        listed = rank < tables.count[:, view, None]
        near = np.sqrt(tables.heading[:, column] ** 2 + tables.elevation[:, level] ** 2)
        better = listed & (near < best)
        best[better] = near[better]
        view_of[better] = view
        slot_of[better] = rank[better] + 1
        new = listed & (first == UNSEEN)
        first[new] = view * k + rank[new]
    seen = first < UNSEEN
    chosen = np.maximum(view_of, 0)
    rows, slots = np.arange(n)[:, None], np.arange(k)[None]
    heading = tables.heading[rows, chosen % NUM_HEADINGS, slots]
    elevation = tables.elevation[rows, chosen // NUM_HEADINGS, slots]
    arrange = partial(np.take_along_axis, indices=np.argsort(first, axis=1, kind="stable"), axis=1)
    return Candidates(
        seen.sum(axis=1),
        arrange(np.where(seen, graphs.neighbors, np.int32(-1))),
        arrange(view_of),
        arrange(slot_of),
        arrange(np.where(seen, VIEW_HEADINGS[chosen] + heading, 0.0)),
        arrange(np.where(seen, VIEW_ELEVATIONS[chosen] + elevation, 0.0)),
        arrange(np.where(seen, best, 0.0)),
    )
