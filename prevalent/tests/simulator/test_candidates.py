"""Candidates against the recorded sweep of the authors' environment."""

import numpy as np
import pytest

from prevalent.simulator import NUM_VIEWS, Simulator
from prevalent.simulator.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS, VIEW_STEP
from prevalent.simulator.graph import candidates_of
from tests.factories import make_graphs, random_scan

ANGLE_TOLERANCE = 1e-6


@pytest.mark.golden
def test_candidates_of_every_viewpoint_equal_the_recorded_ones(golden, real_graphs):
    path = golden / "env" / "candidates_all.npz"
    if not path.is_file():
        pytest.skip("no recorded candidates")
    graphs, found = real_graphs, candidates_of(real_graphs)
    with np.load(path) as case:
        scans, rows, values, cached = (case[k] for k in ("scans", "rows", "vals", "cached"))
    first = graphs.offsets[[graphs.scans.index(s) for s in scans]]
    node = first[rows[:, 0]] + rows[:, 1]
    change = np.concatenate([[True], node[1:] != node[:-1]])
    start = np.flatnonzero(change)
    slot = np.arange(len(node)) - np.repeat(start, np.diff(np.append(start, len(node))))
    assert len(node) == found.count.sum()
    np.testing.assert_array_equal(found.target[node, slot], first[rows[:, 0]] + rows[:, 2])
    np.testing.assert_array_equal(found.view[node, slot], rows[:, 3])
    np.testing.assert_array_equal(found.slot[node, slot], rows[:, 4])
    ours = [found.elevation, found.heading, found.distance]
    for table, column in zip(ours, (1, 2, 3), strict=True):
        np.testing.assert_allclose(
            table[node, slot], values[:, column], rtol=0, atol=ANGLE_TOLERANCE
        )
    # A repeat visit at another base view recomputes the heading only.
    where = {pair: i for i, pair in enumerate(zip(node, found.target[node, slot], strict=True))}
    scan, base = cached[:, 0].astype(int), cached[:, 3].astype(int)
    pairs = zip(first[scan] + cached[:, 1].astype(int), first[scan] + cached[:, 2], strict=True)
    pick = np.array([where[pair] for pair in pairs])
    heading = found.heading[node[pick], slot[pick]] - VIEW_STEP * (base % 12)
    np.testing.assert_allclose(heading, cached[:, 4], rtol=0, atol=ANGLE_TOLERANCE)
    elevation = found.elevation[node[pick], slot[pick]]
    np.testing.assert_allclose(elevation, cached[:, 5], rtol=0, atol=ANGLE_TOLERANCE)


def swept(graphs, node):
    """The plain way: turn a simulator through the 36 views and keep the nearest sighting."""
    simulator = Simulator(graphs)
    kept: dict[int, tuple] = {}
    for view in range(NUM_VIEWS):
        if view == 0:
            simulator.start(np.array([node]), 0.0, -VIEW_STEP)
        else:
            simulator.step(np.array([0]), [1.0], [float(view % 12 == 0)])
        assert simulator.view[0] == view
        seen = simulator.navigable()
        for j in range(1, seen.count[0]):
            near = float(np.hypot(seen.heading[0, j], seen.elevation[0, j]))
            target = int(seen.node[0, j])
            if target not in kept or near < kept[target][-1]:
                absolute = VIEW_HEADINGS[view] + seen.heading[0, j]
                kept[target] = (
                    view,
                    j,
                    absolute,
                    VIEW_ELEVATIONS[view] + seen.elevation[0, j],
                    near,
                )
    return kept


def test_the_tables_equal_a_sweep_through_the_views():
    graphs = make_graphs(one=random_scan(1), two=random_scan(2))
    found = candidates_of(graphs)
    for node in range(len(graphs.viewpoints)):
        plain = swept(graphs, node)
        n = found.count[node]
        assert list(plain) == list(found.target[node, :n])
        for j, (view, slot, heading, elevation, near) in enumerate(plain.values()):
            assert (view, slot) == (found.view[node, j], found.slot[node, j])
            ours = [t[node, j] for t in (found.heading, found.elevation, found.distance)]
            np.testing.assert_allclose(ours, [heading, elevation, near], atol=1e-12)


def test_every_edge_is_a_candidate_and_unused_slots_are_blank():
    graphs = make_graphs(one=random_scan(3))
    found = candidates_of(graphs)
    np.testing.assert_array_equal(found.count, graphs.degree)
    assert (found.target[np.arange(found.target.shape[1]) >= found.count[:, None]] == -1).all()
