"""Ways over the places that a search has seen."""

import networkx as nx
import numpy as np

from prevalent.agents.search import KnownMap
from tests.factories import make_graphs, random_scan


def test_known_ways_are_shortest_through_visited_places():
    graphs = make_graphs(one=random_scan(5, size=20))
    known, seen = KnownMap(graphs), nx.Graph()
    rng = np.random.default_rng(0)
    node, visited = 0, []
    for _ in range(15):
        targets = graphs.neighbors[node][: graphs.degree[node]].astype(np.int64)
        known.add(node, targets)
        visited.append(node)
        for target in targets:
            seen.add_edge(node, int(target), weight=float(graphs.distance(node, target)))
        for other in set(visited):
            ours = [node, *known.path(node, other)]
            allowed = seen.subgraph(set(visited))
            wanted = nx.shortest_path(allowed, node, other, weight="weight")
            assert (
                nx.path_weight(seen, ours, "weight")
                <= nx.path_weight(seen, wanted, "weight") + 1e-9
            )
            assert ours[-1] == other
        node = int(rng.choice(targets))


def test_nobody_walks_to_where_he_is():
    known = KnownMap(make_graphs())
    known.add(0, np.array([1, 3]))
    assert known.path(0, 0) == []
