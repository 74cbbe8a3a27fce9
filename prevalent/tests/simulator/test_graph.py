"""Graphs against recorded networkx results and small hand-made scans."""

from __future__ import annotations

import json
import math

import networkx as nx
import numpy as np
import pytest

from prevalent.simulator import NUM_VIEWS, Camera, Graphs, Simulator, SimulatorError
from prevalent.simulator.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS, VIEW_STEP
from prevalent.simulator.graph import (
    UPRIGHT,
    candidates_of,
    load_graphs,
    look,
    offsets_to_neighbors,
    parse_connectivity,
    read_scans,
    shared_graphs,
    view_tables,
    visible,
)
from tests.factories import make_graphs, make_scan, random_scan, write_connectivity

METERS = 1e-6  # two orders of summation


@pytest.mark.golden
def test_distances_and_paths_equal_the_recorded_ones(golden, real_graphs):
    path = golden / "env" / "graphs.npz"
    if not path.is_file():
        pytest.skip("no recorded graphs")
    with np.load(path) as case:
        for scan in sorted({k.rsplit("_", 1)[0] for k in case if k.endswith("_nodes")}):
            names = case[f"{scan}_nodes"].tolist()
            nodes = real_graphs.nodes([scan] * len(names), names)
            assert sorted(nodes) == sorted(real_graphs.connected(scan))
            found = real_graphs.distance(nodes[:, None], nodes[None])
            np.testing.assert_allclose(found, case[f"{scan}_dist"], rtol=0, atol=METERS)
            assert real_graphs.networkx(scan).number_of_edges() == case[f"{scan}_n_edges"]
    for scan, paths in json.loads(path.with_suffix(".json").read_text())["paths"].items():
        view = real_graphs.by_name(scan)
        assert all(view.path(p[0], p[-1]) == p for p in paths)


@pytest.mark.golden
def test_every_scan_has_the_recorded_size(golden, real_graphs):
    path = golden / "env" / "graphs.json"
    if not path.is_file():
        pytest.skip("no recorded graph statistics")
    recorded = json.loads(path.read_text())
    rows = next(v for k, v in recorded.items() if k.startswith("scan_stats"))
    for scan, nodes, edges, included, total, components in rows:
        graph = real_graphs.networkx(scan)
        start = real_graphs.offsets[real_graphs.scans.index(scan)]
        stop = real_graphs.offsets[real_graphs.scans.index(scan) + 1]
        found = (len(graph), graph.number_of_edges(), len(real_graphs.nodes_of(scan)), stop - start)
        assert found == (nodes, edges, included, total)
        assert nx.number_connected_components(graph) == components


def test_shortest_paths_equal_networkx():
    graphs = make_graphs(one=random_scan(0), two=random_scan(7, size=20))
    for scan in graphs.scans:
        graph, view = graphs.networkx(scan), graphs.by_name(scan)
        lengths = dict(nx.all_pairs_dijkstra_path_length(graph))
        for a in view.viewpoints:
            for b in view.viewpoints:
                assert view.distance(a, b) == pytest.approx(lengths[a][b], abs=1e-12)
                assert view.path(a, b) == nx.dijkstra_path(graph, a, b)


def test_distances_of_a_square_are_those_of_its_sides():
    view = make_graphs(house=make_scan()).by_name("house")
    assert view.distance("a", "b") == 2
    assert view.distance("a", "c") == pytest.approx(2 + np.hypot(2, 0.5))
    assert view.neighbors("a") == ["b", "d"]
    assert view.distance("b", "b") == 0


def test_unconnected_viewpoints_are_infinitely_far():
    graphs = make_graphs(house=make_scan(edges=[("a", "b"), ("c", "d")]), other=random_scan(1))
    a, c = graphs.node("house", "a"), graphs.node("house", "c")
    assert graphs.distance(a, c) == np.inf
    assert graphs.distance(a, graphs.nodes_of("other")[0]) == np.inf
    assert graphs.next_hop(a, c) == -1
    with pytest.raises(SimulatorError, match="no path from 'house_a' to 'house_c'"):
        graphs.path(a, c)


def test_neighbors_keep_the_order_of_the_file():
    graphs = make_graphs(one=random_scan(5))
    for node in range(len(graphs.viewpoints)):
        own = graphs.neighbors[node][: graphs.degree[node]]
        assert list(own) == sorted(own)
        assert graphs.adjacent(node, own).all()
    assert not graphs.adjacent(0, 0)


@pytest.mark.parametrize(
    ("scan", "viewpoint", "message"),
    [
        ("castle", "a", "scan 'castle' is not loaded"),
        ("house", "z", "scan 'house' has no viewpoint 'z'; it has 4 viewpoints, such as 'a'"),
        ("house", "d", "viewpoint 'd' of scan 'house' is excluded"),
    ],
)
def test_what_does_not_exist_is_named(scan, viewpoint, message):
    graphs = make_graphs(house=make_scan(edges=[("a", "b"), ("b", "c")], excluded=["d"]))
    with pytest.raises(SimulatorError, match=message):
        graphs.node(scan, viewpoint)


def test_the_first_missing_viewpoint_of_a_batch_is_named():
    graphs: Graphs = make_graphs()
    with pytest.raises(SimulatorError, match="'y'"):
        graphs.nodes(["house"] * 3, ["a", "y", "z"])


def test_files_give_back_the_scan_they_were_written_from(tmp_path):
    scan = make_scan(edges=[("a", "b"), ("b", "c")], excluded=["d"])
    path = write_connectivity(tmp_path, "house", scan)
    read = parse_connectivity(path.read_bytes(), path)
    assert read.viewpoints == scan.viewpoints
    np.testing.assert_array_equal(read.positions, scan.positions)
    np.testing.assert_array_equal(read.included, scan.included)
    np.testing.assert_array_equal(read.edges, scan.edges)
    np.testing.assert_array_equal(read.rotations, np.tile(UPRIGHT, (4, 1, 1)))


def test_edges_to_excluded_viewpoints_are_dropped(tmp_path):
    path = write_connectivity(tmp_path, "house", make_scan(excluded=["c"]))
    graphs = Graphs.load(tmp_path, cache_dir=tmp_path / "cache")
    assert graphs.by_name("house").neighbors("b") == ["a"]
    assert path.is_file()


def test_a_cached_load_equals_the_first_one(tmp_path):
    write_connectivity(tmp_path / "c", "one", random_scan(1))
    write_connectivity(tmp_path / "c", "two", random_scan(2, size=30))
    cold = Graphs.load(tmp_path / "c", cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    warm = Graphs.load(tmp_path / "c", cache_dir=tmp_path / "cache")
    for name in (
        "positions",
        "rotations",
        "included",
        "edges",
        "all_distances",
        "all_next_hops",
        "neighbors",
    ):
        np.testing.assert_array_equal(getattr(cold, name), getattr(warm, name))
    assert (cold.scans, cold.viewpoints) == (warm.scans, warm.viewpoints)


def test_a_changed_file_is_not_served_from_the_cache(tmp_path):
    for seed in (1, 2):
        write_connectivity(tmp_path / "c", "one", random_scan(seed))
        graphs = Graphs.load(tmp_path / "c", cache_dir=tmp_path / "cache")
        np.testing.assert_array_equal(graphs.positions, random_scan(seed).positions)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"xx" + b])
def test_a_damaged_cache_is_rebuilt(tmp_path, damage):
    write_connectivity(tmp_path / "c", "one", random_scan(1))
    cold = Graphs.load(tmp_path / "c", cache_dir=tmp_path / "cache")
    cache = next((tmp_path / "cache").iterdir())
    cache.write_bytes(damage(cache.read_bytes()))
    again = Graphs.load(tmp_path / "c", cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(cold.all_distances, again.all_distances)


def test_loading_works_where_the_cache_cannot_be_written(tmp_path):
    write_connectivity(tmp_path / "c", "one", random_scan(1))
    (tmp_path / "file").write_text("")
    assert Graphs.load(tmp_path / "c", cache_dir=tmp_path / "file" / "cache").scans == ("one",)


def test_a_truncated_file_is_named(tmp_path):
    path = write_connectivity(tmp_path, "one", random_scan(1))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(SimulatorError, match=r"one_connectivity\.json' is truncated"):
        Graphs.load(tmp_path, cache_dir=tmp_path / "cache")


def test_a_missing_field_is_named(tmp_path):
    path = write_connectivity(tmp_path, "one", random_scan(1))
    rows = json.loads(path.read_text())
    del rows[3]["pose"]
    path.write_text(json.dumps(rows))
    with pytest.raises(SimulatorError, match="pose"):
        Graphs.load(tmp_path, cache_dir=tmp_path / "cache")


def test_an_edge_in_one_direction_only_is_refused(tmp_path):
    path = write_connectivity(tmp_path, "house", make_scan())
    rows = json.loads(path.read_text())
    rows[0]["unobstructed"][2] = True
    path.write_text(json.dumps(rows))
    with pytest.raises(SimulatorError, match="from 'a' to 'c' in one direction only"):
        Graphs.load(tmp_path, cache_dir=tmp_path / "cache")


def test_a_missing_scan_or_folder_is_named(tmp_path):
    write_connectivity(tmp_path, "one", random_scan(1))
    with pytest.raises(SimulatorError, match="scan 'castle' has no connectivity file"):
        Graphs.load(tmp_path, scans=["one", "castle"], cache_dir=tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Graphs.load(tmp_path / "nowhere")


def test_scans_txt_gives_the_order(tmp_path):
    for name in ("one", "two"):
        write_connectivity(tmp_path, name, make_scan())
    assert read_scans(tmp_path) == ["one", "two"]
    (tmp_path / "scans.txt").write_text("two\none\n")
    assert read_scans(tmp_path) == ["two", "one"]


def test_a_folder_may_be_a_string_and_every_scan_is_there_once(tmp_path):
    for name in ("one", "two"):
        write_connectivity(tmp_path, name, make_scan())
    for load in (load_graphs, shared_graphs):
        assert load(str(tmp_path)).scans == ("one", "two")
        with pytest.raises(SimulatorError, match="scans names 'one' twice"):
            load(tmp_path, ["one", "two", "one"])
        with pytest.raises(TypeError, match=r"give \['one'\]"):
            load(tmp_path, "one")
        with pytest.raises(ValueError, match="scans is empty"):
            load(tmp_path, [])
    (tmp_path / "scans.txt").write_text("two\none\ntwo\n")
    with pytest.raises(SimulatorError, match=r"scans\.txt' lists 'two' twice"):
        load_graphs(tmp_path)


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
