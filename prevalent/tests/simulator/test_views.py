"""What is in view, by independent trigonometry."""

import math

import numpy as np

from prevalent.simulator import Camera
from prevalent.simulator.graph import look, offsets_to_neighbors, view_tables, visible
from tests.factories import make_graphs, random_scan


def test_directions_agree_with_plain_trigonometry():
    rng = np.random.default_rng(0)
    offset = rng.uniform(-5, 5, (200, 3)).astype(np.float32)
    heading, elevation = rng.uniform(0, 6.2, 200), rng.uniform(-0.5, 0.5, 200)
    sight = look(offset, heading, elevation)
    x, y, z = offset.astype(np.float64).T
    bearing = np.arctan2(x, y)  # clockwise from +y
    np.testing.assert_allclose(
        np.exp(1j * sight.heading), np.exp(1j * (bearing - heading)), atol=1e-6
    )
    up = np.arctan2(z, np.hypot(x, y)) - elevation
    np.testing.assert_allclose(sight.elevation, up, atol=1e-6)
    np.testing.assert_allclose(sight.facing, np.cos(bearing - heading), atol=1e-6)


def test_only_the_horizontal_field_of_view_decides():
    degrees = np.array([0, 39, 41, -39, -41, 180])
    offset = np.stack(
        [np.sin(np.radians(degrees)), np.cos(np.radians(degrees)), np.full(6, 50.0)], axis=1
    ).astype(np.float32)
    sight = look(offset, 0.0, 0.0)
    assert visible(sight, Camera(), True).tolist() == [True, True, False, True, False, False]
    assert visible(sight, Camera(), False).all()


def test_a_neighbor_straight_above_is_never_in_view():
    with np.errstate(all="raise"):
        sight = look(np.array([[0, 0, 2]], dtype=np.float32), 0.0, 0.0)
    assert not visible(sight, Camera(), True).any()
    assert sight.elevation[0] == math.pi / 2


def test_tables_are_built_once_per_camera_and_list_neighbors_nearest_first():
    graphs = make_graphs(one=random_scan(4, size=25))
    tables = view_tables(graphs, Camera())
    assert view_tables(graphs, Camera()) is tables
    assert view_tables(graphs, Camera(320, 240)) is not view_tables(graphs, Camera(320, 240, 0.5))
    for view in (0, 17, 35):
        near = np.hypot(tables.heading[:, view % 12], tables.elevation[:, view // 12])
        for node in range(len(graphs.viewpoints)):
            listed = tables.order[node, view, : tables.count[node, view]]
            assert (np.diff(near[node, listed]) >= 0).all()
            assert (listed < graphs.degree[node]).all()


def test_offsets_of_unused_slots_are_zero():
    graphs = make_graphs(one=random_scan(4))
    assert not offsets_to_neighbors(graphs)[graphs.neighbors < 0].any()


def test_every_view_of_every_real_viewpoint_agrees_with_plain_trigonometry(real_graphs):
    graphs, tables = real_graphs, view_tables(real_graphs, Camera())
    source, slot = np.nonzero(graphs.neighbors >= 0)
    kept = graphs.positions.astype(np.float32).astype(np.float64)  # MatterSim's precision
    x, y, z = (kept[graphs.neighbors[source, slot]] - kept[source]).T
    bearing, rise = np.arctan2(x, y), np.arctan2(z, np.hypot(x, y))
    states = 0
    for view in range(36):
        turn = np.angle(np.exp(1j * (bearing - (view % 12) * np.pi / 6)))
        listed = np.zeros(graphs.neighbors.shape, dtype=bool)
        listed[source, slot] = np.abs(turn) <= Camera().half_angle
        rank = np.arange(graphs.neighbors.shape[1]) < tables.count[:, view, None]
        found = np.zeros_like(listed)
        np.put_along_axis(found, tables.order[:, view].astype(int), rank, axis=1)
        np.testing.assert_array_equal(found, listed)
        ours = tables.heading[source, view % 12, slot]
        np.testing.assert_allclose(np.exp(1j * ours), np.exp(1j * turn), atol=1e-6)
        up = tables.elevation[source, view // 12, slot]
        np.testing.assert_allclose(up, rise - (view // 12 - 1) * np.pi / 6, atol=1e-6)
        states += int(graphs.included.sum())
    assert states == 36 * graphs.included.sum()
