"""No walk ever leaves the graph; parity of views and paths with recordings: tests/simulator."""

import numpy as np
import pytest

from prevalent.environments.navigation import NavigationEnvironment
from prevalent.environments.panorama import PanoramicEnvironment
from prevalent.simulator.graph import Graphs
from tests.factories import make_graphs, random_scan, tasks_in

STEPS, AGENTS = 1000, 100  # 100,000 steps in all


@pytest.fixture(scope="module")
def graphs() -> Graphs:
    return make_graphs(**{f"s{seed}": random_scan(seed, 20) for seed in range(5)})


@pytest.mark.parametrize("kind", [NavigationEnvironment, PanoramicEnvironment])
def test_a_hundred_thousand_random_steps_never_leave_the_graph(graphs, kind):
    environment, rng = kind(graphs), np.random.default_rng(0)
    tasks = tasks_in(graphs, AGENTS)
    seen = environment.reset(tasks)
    scans = np.array([graphs.scans.index(task.scan) for task in tasks])
    nodes = [graphs.nodes_of(scan) for scan in graphs.scans]
    first = np.array([own[0] for own in nodes])[scans]
    last = np.array([own[-1] for own in nodes])[scans]
    for _ in range(STEPS):
        before = seen.node
        seen = environment.step(rng.integers(seen.count))
        moved = seen.node != before
        assert graphs.adjacent(before[moved], seen.node[moved]).all()
        assert ((first <= seen.node) & (seen.node <= last)).all()
        assert graphs.included[seen.node].all()
        assert np.isfinite(seen.distance).all()
        assert ((seen.view >= 0) & (seen.view < 36)).all()
