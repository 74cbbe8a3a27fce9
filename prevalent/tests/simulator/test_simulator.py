"""The simulator against MatterSim's recorded states, and its own rules."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from prevalent.simulator import Camera, Simulator, SimulatorError
from tests.factories import make_graphs, make_scan, random_scan

ANGLE_TOLERANCE = 1e-6  # MatterSim mixes float32 and float64; a replica reaches 3e-7
BUILDS = {
    "sim_v1": {},
    "sim_v2": {},
    "sim_v2u": {"restricted": False},
    "sim_v2h": {"turns": "multiple"},
}
LIMITS = {"camc": (-0.5, 0.3)}
BUILD_CASES = list(BUILDS)


def recorded(case, prefix):
    names = ("state_int", "state_f", "nav_ix", "nav_f", "action", "episode")
    part = {n: case[f"{prefix}_{n}"] for n in names if f"{prefix}_{n}" in case}
    who = part["state_int"][:, :2]
    part["new"] = np.concatenate([[True], (who[1:] != who[:-1]).any(axis=1)])
    if "episode" in part:
        part["new"] |= part["state_int"][:, 2] == part["state_int"][0, 2]
    return part


def rows_of_episodes(part, prefix):
    """Row numbers as (steps, episodes), so that all episodes can be stepped as one batch."""
    steps = part["state_int"][:, 2]
    if prefix == "batch":
        return np.arange(len(steps)).reshape(-1, len(part["episode"]))
    starts = np.flatnonzero(part["new"])
    return starts + np.arange(len(steps) // len(starts))[:, None]


def compare(simulator, part, rows, graphs, begin):
    states, poses = part["state_int"][rows], part["state_f"][rows]
    np.testing.assert_array_equal(graphs.location[simulator.node], states[:, 3])
    if simulator.discretized:
        np.testing.assert_array_equal(simulator.view, states[:, 4])
    np.testing.assert_allclose(simulator.heading, poses[:, 0], rtol=0, atol=ANGLE_TOLERANCE)
    np.testing.assert_allclose(simulator.elevation, poses[:, 1], rtol=0, atol=ANGLE_TOLERANCE)
    np.testing.assert_allclose(simulator.position, poses[:, 2:], rtol=0, atol=ANGLE_TOLERANCE)
    seen = simulator.navigable()
    np.testing.assert_array_equal(seen.count, states[:, 5])
    used = np.arange(seen.node.shape[1]) < seen.count[:, None]
    places = np.concatenate([np.arange(begin[r], begin[r + 1]) for r in rows])
    np.testing.assert_array_equal(graphs.location[seen.node[used]], part["nav_ix"][places])
    found = np.stack([seen.heading[used], seen.elevation[used], seen.distance[used]], axis=1)
    np.testing.assert_allclose(found, part["nav_f"][places], rtol=0, atol=ANGLE_TOLERANCE)


def replay(graphs, scans, part, prefix, settings):
    """Step all recorded episodes with one camera together; returns the number of states."""
    begin = np.concatenate([[0], np.cumsum(part["state_int"][:, 5])])
    table = rows_of_episodes(part, prefix)
    cameras = part["episode"][:, 5:8] if "episode" in part else np.array([[640, 480, np.pi / 3]])
    first = graphs.offsets[[graphs.scans.index(s) for s in scans]]
    for camera in np.unique(cameras, axis=0):
        chosen = table
        if "episode" in part:
            chosen = table[:, (cameras == camera).all(axis=1)]
        start = part["state_int"][chosen[0]]
        if "episode" in part:
            own = part["episode"][(cameras == camera).all(axis=1)]
            heading, elevation = own[:, 3], own[:, 4]
        else:
            heading, elevation = 0.0, -np.pi / 6
        simulator = Simulator(
            graphs,
            Camera(int(camera[0]), int(camera[1]), float(camera[2])),
            discretized=prefix in ("disc", "exh", "batch", "camd"),
            elevation_limits=LIMITS.get(prefix, (-0.94, 0.94)),
            **settings,
        )
        simulator.start(first[start[:, 0]] + start[:, 3], heading, elevation)
        for step, rows in enumerate(chosen):
            compare(simulator, part, rows, graphs, begin)
            if step + 1 == len(chosen):
                break
            if "action" in part:
                index, right, up = part["action"][rows].T
            else:
                index, right = np.zeros(len(rows)), np.ones(len(rows))
                up = np.full(len(rows), float((step + 1) % 12 == 0))
            simulator.step(index.astype(int), right, up)
    return len(part["state_int"])


@pytest.mark.golden
@pytest.mark.parametrize("build", BUILD_CASES)
def test_states_equal_those_of_mattersim(golden, real_graphs, data_dir, build):
    path = golden / "sim" / f"{build}.npz"
    if not path.is_file():
        pytest.skip(f"no recorded simulator states {path.name}")
    scans = (data_dir / "connectivity" / "scans.txt").read_text().split()
    with np.load(path) as case:
        prefixes = sorted({key.split("_")[0] for key in case})
        total = sum(
            replay(real_graphs, scans, recorded(case, p), p, BUILDS[build]) for p in prefixes
        )
    assert total > 0


@pytest.mark.golden
def test_what_mattersim_refuses_is_refused(golden, real_graphs):
    paths = sorted((golden / "sim").glob("*_misc.json"))
    if not paths:
        pytest.skip("no recorded simulator errors")
    for path in paths:
        for message in json.loads(path.read_text()).get("start_at_excluded_viewpoint", [])[1:]:
            viewpoint = message.split("ViewpointId: ")[1].split(",")[0]
            node = real_graphs.viewpoints.index(viewpoint)
            with pytest.raises(SimulatorError, match="excluded"):
                real_graphs.node(real_graphs.scan_of(node), viewpoint)


def world():
    return make_graphs(one=random_scan(1), two=random_scan(2, size=30))


def test_a_long_random_walk_never_leaves_the_graph():
    graphs = world()
    simulator, rng = Simulator(graphs, seed=5), np.random.default_rng(0)
    simulator.new_random_episode(["one", "two"] * 50)
    for _ in range(1000):
        before = simulator.node
        index = rng.integers(simulator.navigable().count)
        simulator.step(index, rng.normal(size=100), rng.normal(size=100))
        moved = before != simulator.node
        assert graphs.adjacent(before[moved], simulator.node[moved]).all()
        np.testing.assert_array_equal(moved, index > 0)
        assert ((simulator.view >= 0) & (simulator.view < 36)).all()
    assert (simulator.steps == 1000).all()


def test_continuous_and_discretized_lists_agree_at_the_views():
    graphs = world()
    nodes = np.repeat(graphs.connected("two"), 36)
    views = np.tile(np.arange(36), len(nodes) // 36)
    heading, elevation = (views % 12) * math.pi / 6, (views // 12 - 1) * math.pi / 6
    table, free = Simulator(graphs), Simulator(graphs, discretized=False)
    for simulator in (table, free):
        simulator.start(nodes, heading, elevation)
    ours, theirs = table.navigable(), free.navigable()
    np.testing.assert_array_equal(ours.node, theirs.node)
    np.testing.assert_allclose(ours.heading, theirs.heading, atol=1e-9)


def test_only_the_sign_of_a_turn_matters_except_in_hannas_build():
    graphs = world()
    for turns, column in (("sign", 1), ("multiple", 3)):
        simulator = Simulator(graphs, turns=turns)
        simulator.new_episode(["one"], [graphs.viewpoints[0]], 0.0)
        simulator.step(np.array([0]), np.array([3.0]), np.array([-2.0]))
        assert simulator.view.tolist() == [column]


def test_the_first_bad_action_is_named_and_nothing_moves():
    graphs = world()
    simulator = Simulator(graphs)
    simulator.start(graphs.nodes_of("one")[:3], 0.0)
    before = simulator.node.copy()
    with pytest.raises(SimulatorError, match="action index 77 of agent 1"):
        simulator.step(np.array([0, 77, -1]), np.zeros(3), np.zeros(3))
    with pytest.raises(SimulatorError, match="must be 3 integers"):
        simulator.step(np.array([0.5, 0, 0]), np.zeros(3), np.zeros(3))
    np.testing.assert_array_equal(simulator.node, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"elevation_limits": (0.1, 0.3)}, "elevation limits must enclose 0"),
        ({"turns": "both"}, "turns must be 'sign' or 'multiple'"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(SimulatorError, match=message):
        Simulator(world(), **settings)


@pytest.mark.parametrize(
    ("nodes", "heading", "elevation", "message"),
    [
        ([0], np.nan, 0.0, "headings must be finite, got nan for agent 0"),
        ([0, 1], 0.0, [0.0, np.inf], "elevations must be finite, got inf for agent 1"),
        ([0, 1], [0.0] * 3, 0.0, "headings must be 2 numbers or one for all"),
        ([0], "north", 0.0, "headings must be 1 numbers or one, got 'north'"),
        ([0], ["1.5"], 0.0, "headings must be 1 numbers or one, got"),
        ([0, 1], 0.0, [[0.0], [0.0, 1.0]], "elevations must be 2 numbers or one, got"),
        ([-1], 0.0, 0.0, "node -1 of agent 0 is out of range; the graphs have nodes 0 to 3"),
        ([0, 4], 0.0, 0.0, "node 4 of agent 1 is out of range"),
        ([1.5], 0.0, 0.0, "nodes must be a list of integers, got float64"),
        ([[0]], 0.0, 0.0, "nodes must be a list of integers"),
        ([3], 0.0, 0.0, "node 3 of agent 0 is viewpoint 'house_d', which is excluded"),
    ],
)
def test_an_impossible_start_is_refused_and_changes_nothing(nodes, heading, elevation, message):
    scan = make_scan(excluded=("d",), edges=[("a", "b"), ("b", "c")])
    simulator = Simulator(make_graphs(house=scan))
    simulator.start([0, 2], [0.0, 1.0])
    before = (simulator.node, simulator.view, simulator.steps, simulator.navigable())
    with pytest.raises(SimulatorError, match=message):
        simulator.start(nodes, heading, elevation)
    after = (simulator.node, simulator.view, simulator.steps, simulator.navigable())
    assert all(a is b for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("discretized", [True, False])
@pytest.mark.parametrize(
    ("heading", "elevation", "message"),
    [
        ([0.0, np.nan], [0.0, 0.0], "heading changes must be finite, got nan for agent 1"),
        ([0.0, 0.0], np.inf, "elevation changes must be finite, got inf for agent 0"),
        ([1, 1, 1], [0, 0], "heading changes must be 2 numbers or one for all"),
        ([[1, 1]], [0, 0], "heading changes must be 2 numbers or one for all"),
        ([0, 0], ["up", "up"], "elevation changes must be 2 numbers or one, got"),
    ],
)
def test_an_impossible_turn_is_refused_and_changes_nothing(
    discretized, heading, elevation, message
):
    simulator = Simulator(make_graphs(), discretized=discretized, restricted=False)
    simulator.start([0, 1], 0.0)
    kept = ("node", "view", "heading", "elevation", "steps")
    before = [getattr(simulator, name).copy() for name in kept]
    with pytest.raises(SimulatorError, match=message):
        simulator.step(np.array([1, 1]), heading, elevation)
    for name, value in zip(kept, before, strict=True):
        np.testing.assert_array_equal(getattr(simulator, name), value)
    simulator.step(np.array([1, 1]), 1.0, 0.0)
    assert simulator.steps.tolist() == [1, 1]


def test_huge_turns_keep_the_view_among_the_36():
    simulator = Simulator(make_graphs(), turns="multiple")
    simulator.start([0], 0.0)
    simulator.step(np.array([0]), [1e300], [1e300])
    assert 24 <= simulator.view[0] < 36


def test_importing_the_simulator_does_not_import_torch():
    code = "import sys, prevalent.simulator; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_random_starts_do_not_touch_numpys_own_generator():
    np.random.seed(3)
    expected = np.random.RandomState(3).rand()
    Simulator(world()).new_random_episode(["one"])
    assert np.random.rand() == expected
