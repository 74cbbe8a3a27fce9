"""Both ways of a benchmark compute where ``--device`` says, on a stand-in of a device."""

import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from stand_in import stand_in

from prevalent.data.features import FeatureStore
from prevalent.simulator.graph import Graphs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from agent_iteration import Contest


@pytest.fixture
def world(toy_world):
    """Toy houses whose places share four panoramas."""
    graphs = Graphs.load(toy_world / "connectivity")
    panoramas = np.random.default_rng(0).standard_normal((4, 36, 8), dtype=np.float32)
    store = FeatureStore([str(i) for i in range(4)], panoramas)
    store.rows = {graphs.long_id(n): n % 4 for n in range(len(graphs.viewpoints))}
    return graphs, store


def test_an_iteration_and_an_evaluation_run_on_a_device(world):
    sizes = {"batch": 2, "lstm_actions": 2, "large": 2, "large_agents": [], "text_once": False}
    args = Namespace(device="cuda", what=["evaluation", "iteration"], **sizes)
    with stand_in() as device:
        contest = Contest("lstm", *world, args)
        for work, _ in contest.ways().values():
            work()
        assert contest.ends["plain"] == contest.ends["ours"]
        gradients = contest.ours.modules["decoder"].parameters()
        assert not any(device.of_host(one) for one in gradients)
