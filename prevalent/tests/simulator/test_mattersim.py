"""MatterSim's interfaces: states, where scans are found, and what is refused."""

from __future__ import annotations

import gc
import math
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import prevalent.MatterSim as MatterSim
import prevalent.MatterSim.v1
from prevalent.simulator import Camera, Graphs, Simulator, SimulatorError
from prevalent.simulator.graph import load_graphs
from tests.factories import make_scan, random_scan, write_connectivity
from tests.simulator.test_simulator import ANGLE_TOLERANCE, LIMITS, recorded

VERSION_1, VERSION_2 = prevalent.MatterSim.v1.Simulator, MatterSim.Simulator


@pytest.fixture
def folder(tmp_path):
    write_connectivity(
        tmp_path, "house", make_scan(excluded=("d",), edges=[("a", "b"), ("b", "c")])
    )
    write_connectivity(tmp_path, "other", random_scan(2))
    return str(tmp_path)


def configured(kind, folder, batch=1):
    """A simulator as most code bases set it."""
    simulator = kind()
    simulator.setNavGraphPath(folder)
    simulator.setRenderingEnabled(False)
    simulator.setDiscretizedViewingAngles(True)
    simulator.setCameraResolution(640, 480)
    simulator.setCameraVFOV(math.radians(60))
    if batch > 1:
        simulator.setBatchSize(batch)
    simulator.initialize()
    return simulator


def test_the_first_version_turns_and_moves_one_environment(folder):
    simulator = configured(VERSION_1, folder)
    simulator.init()
    simulator.newEpisode("house", "a", 0.1, 0)
    state = simulator.getState()
    assert (state.scanId, state.location.viewpointId, state.viewIndex) == ("house", "a", 12)
    assert state.location.point == [0, 0, 0]
    assert (state.location.ix, state.location.rel_distance) == (0, 0)
    assert [place.viewpointId for place in state.navigableLocations] == ["a", "b"]
    ahead = state.navigableLocations[1]
    assert (ahead.ix, ahead.x, ahead.y, ahead.z, ahead.rel_distance) == (1, 0, 2, 0, 2)
    simulator.makeAction(1, 1.0, -1.0)
    after = simulator.getState()
    assert (after.location.viewpointId, after.viewIndex, after.step) == ("b", 1, 1)
    assert (after.heading, after.elevation) == pytest.approx((math.pi / 6, -math.pi / 6))
    assert (state.location.viewpointId, state.step) == ("a", 0)  # a snapshot
    assert "viewpointId='b'" in repr(after)


def test_the_second_version_steps_a_batch_of_live_states(folder):
    simulator = configured(VERSION_2, folder, batch=2)
    simulator.newEpisode(["house", "house"], ["a", "b"], [0.0, math.pi / 2], [0.0, 0.0])
    first, second = simulator.getState()
    simulator.makeAction([1, 1], [0, 1], [0, 0])
    assert [s.location.viewpointId for s in (first, second)] == ["b", "c"]
    assert [s.viewIndex for s in simulator.getState()] == [12, 16]
    assert first.location == first.navigableLocations[0]
    simulator.resetTimers()
    simulator.makeAction([0, 0], [0, 1], [0, 0])
    assert "newEpisode and makeAction: 1" in simulator.timingInfo()


def test_hannas_build_turns_by_multiples(folder):
    simulator = configured(partial(VERSION_2, multiple_turns=True), folder)
    simulator.newEpisode(["house"], ["a"], [0.0], [0.0])
    simulator.makeAction([0], [-3], [0])
    assert simulator.getState()[0].viewIndex == 21


def test_all_neighbors_are_listed_without_restriction(folder):
    simulator = VERSION_2()
    simulator.setNavGraphPath(folder)
    simulator.setRestrictedNavigation(False)
    simulator.newEpisode(["house"], ["b"], [0.0], [0.0])
    assert len(simulator.getState()[0].navigableLocations) == 3


def test_random_starts_repeat_with_the_seed_of_each_simulator(folder):
    def starts(seed):
        simulator = VERSION_1()
        simulator.setNavGraphPath(folder)
        simulator.setSeed(seed)
        found = []
        for _ in range(20):
            simulator.newEpisode("other")
            found.append(simulator.getState().location.viewpointId)
        return found

    assert starts(1) == starts(1)
    assert starts(1) != starts(2)
    batch = configured(VERSION_2, folder, batch=2)
    batch.newRandomEpisode(["other", "house"])
    assert [state.scanId for state in batch.getState()] == ["other", "house"]


def test_elevation_limits_are_checked_as_in_the_original(folder):
    simulator = VERSION_1()
    simulator.setNavGraphPath(folder)
    assert simulator.setElevationLimits(-0.5, 0.3)
    for low, high in ((0.1, 0.3), (-2, 0.3), (-0.5, math.nan)):
        assert not simulator.setElevationLimits(low, high)
    simulator.newEpisode("house", "a", 0, -1)
    assert simulator.getState().elevation == -0.5


@pytest.mark.parametrize("discretized", [True, False])
@pytest.mark.parametrize("restricted", [True, False])
def test_a_random_walk_gives_the_states_of_the_batched_simulator(folder, discretized, restricted):
    theirs = VERSION_2()
    theirs.setNavGraphPath(folder)
    theirs.setBatchSize(8)
    theirs.setCameraResolution(640, 480)
    theirs.setDiscretizedViewingAngles(discretized)
    theirs.setRestrictedNavigation(restricted)
    theirs.newRandomEpisode(["other"] * 8)
    graphs = load_graphs(Path(folder))
    camera = Camera(640, 480, 0.8)
    ours = Simulator(graphs, camera, discretized=discretized, restricted=restricted)
    states = theirs.getState()
    names = [state.location.viewpointId for state in states]
    ours.new_episode(["other"] * 8, names, [s.heading for s in states])
    rng = np.random.default_rng(3)
    for _ in range(60):
        seen = ours.navigable()
        index, right, up = rng.integers(seen.count), rng.normal(size=8), rng.normal(size=8)
        ours.step(index, right, up)
        theirs.makeAction(index.tolist(), right.tolist(), up.tolist())
        seen = ours.navigable()
        for i, state in enumerate(states):
            assert state.location.viewpointId == graphs.viewpoints[ours.node[i]]
            assert (state.step, state.viewIndex) == (ours.steps[i], ours.view[i])
            assert (state.heading, state.elevation) == pytest.approx(
                (ours.heading[i], ours.elevation[i]), abs=1e-12
            )
            places = state.navigableLocations
            assert [graphs.node("other", p.viewpointId) for p in places] == seen.node[
                i, : seen.count[i]
            ].tolist()
            angles = [(p.rel_heading, p.rel_elevation, p.rel_distance) for p in places]
            wanted = np.stack([seen.heading[i], seen.elevation[i], seen.distance[i]], axis=1)
            np.testing.assert_allclose(angles, wanted[: seen.count[i]], rtol=0, atol=1e-9)


def test_sixty_four_simulators_share_one_graph_which_goes_with_the_last(folder):
    def living():
        gc.collect()
        return sum(type(thing) is Graphs for thing in gc.get_objects())

    before = living()
    simulators = [configured(VERSION_1, folder) for _ in range(64)]
    assert living() == before + 1
    assert len({id(simulator._sights) for simulator in simulators}) == 1
    for simulator in simulators:
        simulator.close()
    assert living() == before


def test_changed_files_are_read_anew(folder, tmp_path):
    configured(VERSION_1, folder)
    write_connectivity(tmp_path, "house", make_scan({"x": (0, 0, 0), "y": (0, 1, 0)}, [("x", "y")]))
    simulator = configured(VERSION_1, folder)
    simulator.newEpisode("house", "x")
    with pytest.raises(SimulatorError, match="no viewpoint 'a'"):
        simulator.newEpisode("house", "a")


def test_scans_are_found_in_the_current_folder_then_where_the_variables_say(
    tmp_path, monkeypatch, folder
):
    monkeypatch.chdir(tmp_path)
    for name in ("MATTERPORT_DATA_DIR", "PREVALENT_DATA"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SimulatorError, match="setNavGraphPath"):
        VERSION_1().init()
    for variable in ("PREVALENT_DATA", "MATTERPORT_DATA_DIR"):
        root = tmp_path / variable
        write_connectivity(root / "connectivity", variable, make_scan())
        monkeypatch.setenv(variable, str(root))
        simulator = VERSION_1()
        simulator.newEpisode(variable, "a")
        assert simulator.getState().scanId == variable
    write_connectivity(tmp_path / "connectivity", "here", make_scan())
    VERSION_1().newEpisode("here", "a")
    with pytest.raises(SimulatorError, match="no folder 'nowhere'"):
        configured(VERSION_1, "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SimulatorError, match="holds no _connectivity"):
        configured(VERSION_1, str(tmp_path / "empty"))


def test_a_setting_that_comes_too_late_says_so(folder):
    simulator = configured(VERSION_2, folder)
    with pytest.warns(UserWarning, match=r"after initialize.*batch_size stays 1.*close"):
        simulator.setBatchSize(4)
    simulator.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulator.setBatchSize(4)
    simulator.newRandomEpisode(["other"] * 4)
    assert len(simulator.getState()) == 4


@pytest.mark.parametrize(
    ("call", "values", "message"),
    [
        ("setCameraResolution", (0, 480), "camera size must be whole positive numbers"),
        ("setCameraResolution", (640.5, 480), "camera size must be whole positive numbers"),
        ("setCameraVFOV", (math.nan,), "vfov must lie between 0 and pi"),
        ("setBatchSize", (0,), "batch size must be at least 1"),
        ("setCacheSize", (0,), "cache size must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(call, values, message):
    with pytest.raises(SimulatorError, match=message):
        getattr(VERSION_2(), call)(*values)


def test_nothing_can_be_asked_for_before_an_episode_or_after_the_end(folder):
    for kind, action in ((VERSION_1, (0, 0, 0)), (VERSION_2, ([0], [0], [0]))):
        simulator = configured(kind, folder)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="call newEpisode before getState"):
                simulator.getState()
            with pytest.raises(SimulatorError, match="call newEpisode before makeAction"):
                simulator.makeAction(*action)
            simulator.close()


@pytest.mark.parametrize(
    ("start", "kinds", "message"),
    [
        (("castle", "a", 0, 0), (ValueError, IndexError), "'castle' has no connectivity file"),
        (("house", "nowhere", 0, 0), (ValueError,), "no viewpoint 'nowhere'"),
        (("house", "d", 0, 0), (ValueError,), "'d' of scan 'house' is excluded"),
        (("house", ["a", "b", "c"], 0, 0), (ValueError,), r"no viewpoint \['a', 'b', 'c'\]"),
        (("house", None, 0, 0), (ValueError,), "no viewpoint None"),
        ((["house"], "a", 0, 0), (ValueError,), r"scan \['house'\] has no connectivity file"),
        (("house", "a", math.nan, 0), (ValueError,), "heading of environment 0 must be finite"),
        (("house", "a", 0, -math.inf), (ValueError,), "elevation of environment 0 must be finite"),
        (("house", "a", "north", 0), (ValueError, TypeError), "must be a number, got 'north'"),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_bad_starts_are_refused_and_change_nothing(folder, version, start, kinds, message):
    simulator = configured(VERSION_1 if version == 1 else VERSION_2, folder)
    lists = (lambda *values: values) if version == 1 else (lambda *values: [[v] for v in values])
    simulator.newEpisode(*lists("house", "b", 0.0, 0.0))
    simulator.makeAction(*lists(0, 1, 0))
    before = repr(simulator.getState())
    for kind in kinds:
        with pytest.raises(kind, match=message):
            simulator.newEpisode(*lists(*start))
    assert repr(simulator.getState()) == before


@pytest.mark.parametrize(
    ("action", "kinds", "message"),
    [
        ((9, 0, 0), (ValueError,), "invalid action index 9 in environment 1 of 2"),
        ((-1, 0, 0), (ValueError, TypeError), "invalid action index -1"),
        ((1.7, 0, 0), (ValueError, TypeError), "must be an integer, got 1.7"),
        ((0, math.nan, 0), (ValueError,), "heading change of environment 1 must be finite"),
        ((0, 0, math.inf), (ValueError,), "elevation change of environment 1 must be finite"),
        ((0, [1, 1], 0), (ValueError, TypeError), "heading change of environment 1 must be a num"),
    ],
)
@pytest.mark.parametrize("discretized", [True, False])
def test_bad_actions_are_refused_and_nobody_moves(folder, discretized, action, kinds, message):
    simulator = VERSION_2()
    simulator.setNavGraphPath(folder)
    simulator.setDiscretizedViewingAngles(discretized)
    simulator.setBatchSize(2)
    simulator.newEpisode(["house"] * 2, ["a", "b"], [0.0] * 2, [0.0] * 2)
    before = repr(simulator.getState())
    for kind in kinds:
        with pytest.raises(kind, match=message):
            simulator.makeAction(
                *([good, bad] for good, bad in zip((1, 1, 1), action, strict=True))
            )
    assert repr(simulator.getState()) == before


def test_lists_of_another_length_than_the_batch_are_refused(folder):
    simulator = configured(VERSION_2, folder, batch=2)
    simulator.newRandomEpisode(["other"] * 2)
    before = repr(simulator.getState())
    for values in (([0], [0, 0], [0, 0]), ([0, 0], [0, 0], [0, 0, 0])):
        with pytest.raises(SimulatorError, match="for a batch of 2; call setBatchSize before"):
            simulator.makeAction(*values)
    with pytest.raises(SimulatorError, match=r"must be a list of 2 values, got 1\.0"):
        simulator.makeAction([0, 0], 1.0, [0, 0])
    with pytest.raises(SimulatorError, match="must be a list of 2 values, got 'ab'"):
        simulator.newRandomEpisode("ab")
    with pytest.raises(SimulatorError, match="scanIds has 1 values"):
        simulator.newRandomEpisode(["other"])
    assert repr(simulator.getState()) == before


def test_importing_it_needs_no_torch():
    import subprocess
    import sys

    code = (
        "import sys, prevalent.MatterSim, prevalent.MatterSim.v1; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


BUILDS = {
    "sim_v1": VERSION_1,
    "sim_v2": VERSION_2,
    "sim_v2u": VERSION_2,
    "sim_v2h": partial(VERSION_2, multiple_turns=True),
}


def follow(build, folder, prefix, part, scans, graphs):
    """Replay recorded episodes with one camera's simulator each; returns the number of states."""
    begin = np.concatenate([[0], np.cumsum(part["state_int"][:, 5])])
    starts = np.flatnonzero(part["new"])
    if prefix == "batch":  # its rows are step-major
        size = len(part["episode"])
        rows = np.arange(len(part["state_int"])).reshape(-1, size).T
    else:
        rows = [
            np.arange(a, b) for a, b in zip(starts, [*starts[1:], len(part["new"])], strict=True)
        ]
    simulators = {}
    for i, episode in enumerate(rows):
        row = part["state_int"][episode[0]]
        pose, camera = (0.0, -math.pi / 6), (640, 480, math.pi / 3)
        if "episode" in part:
            pose, camera = part["episode"][i, 3:5].tolist(), tuple(part["episode"][i, 5:8].tolist())
        if camera not in simulators:
            simulator = BUILDS[build]()
            simulator.setNavGraphPath(str(folder))
            simulator.setCameraResolution(int(camera[0]), int(camera[1]))
            simulator.setCameraVFOV(camera[2])
            simulator.setDiscretizedViewingAngles(prefix in ("disc", "exh", "batch", "camd"))
            simulator.setElevationLimits(*LIMITS.get(prefix, (-0.94, 0.94)))
            if build == "sim_v2u":
                simulator.setRestrictedNavigation(False)
            simulator.initialize()
            simulators[camera] = simulator
        simulator, single = simulators[camera], build == "sim_v1"
        lists = (lambda *v: v) if single else (lambda *v: [[one] for one in v])
        scan = scans[row[0]]
        names = [graphs.viewpoints[n + graphs.offsets[graphs.scans.index(scan)]] for n in row[3:4]]
        simulator.newEpisode(*lists(scan, names[0], *pose))
        for t, r in enumerate(episode):
            state = simulator.getState() if single else simulator.getState()[0]
            check(state, part, r, begin, prefix)
            if t + 1 < len(episode):
                action = (0, 1, float((t + 1) % 12 == 0))
                if "action" in part:
                    action = part["action"][r].tolist()
                simulator.makeAction(*lists(int(action[0]), *action[1:]))
    return len(part["state_int"])


def check(state, part, r, begin, prefix):
    row, pose = part["state_int"][r], part["state_f"][r]
    assert state.location.ix == row[3]
    if prefix in ("disc", "exh", "batch", "camd"):
        assert state.viewIndex == row[4]
    own = state.location
    found = (state.heading, state.elevation, own.x, own.y, own.z)
    np.testing.assert_allclose(found, pose, rtol=0, atol=ANGLE_TOLERANCE)
    places = slice(begin[r], begin[r + 1])
    assert [p.ix for p in state.navigableLocations] == part["nav_ix"][places].tolist()
    angles = [(p.rel_heading, p.rel_elevation, p.rel_distance) for p in state.navigableLocations]
    np.testing.assert_allclose(angles, part["nav_f"][places], rtol=0, atol=ANGLE_TOLERANCE)


@pytest.mark.golden
@pytest.mark.parametrize("build", list(BUILDS))
def test_states_equal_the_recorded_ones(golden, real_graphs, data_dir, build):
    path = golden / "sim" / f"{build}.npz"
    if not path.is_file():
        pytest.skip(f"no recorded simulator states {path.name}")
    scans = (data_dir / "connectivity" / "scans.txt").read_text().split()
    with np.load(path) as case:
        prefixes = sorted({key.split("_")[0] for key in case})
        total = sum(
            follow(build, data_dir / "connectivity", p, recorded(case, p), scans, real_graphs)
            for p in prefixes
        )
    assert total > 0
