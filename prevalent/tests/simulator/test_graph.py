"""Graphs against recorded networkx results and small hand-made scans."""

import json

import networkx as nx
import numpy as np
import pytest

from prevalent.simulator import Graphs, SimulatorError
from tests.factories import make_graphs, make_scan, random_scan

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
