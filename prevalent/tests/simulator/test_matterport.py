"""MatterSim's Python API on this simulator."""

import math

import pytest

from prevalent.simulator import SimulatorError
from prevalent.simulator.simulator import BatchSimulator, SingleSimulator
from tests.factories import make_scan, random_scan, write_connectivity


@pytest.fixture
def folder(tmp_path):
    write_connectivity(tmp_path, "house", make_scan())
    write_connectivity(tmp_path, "other", random_scan(2))
    return str(tmp_path)


def configured(simulator, folder):
    simulator.setNavGraphPath(folder)
    simulator.setCameraResolution(640, 480)
    simulator.setCameraVFOV(math.radians(60))
    simulator.setDiscretizedViewingAngles(True)
    simulator.setRenderingEnabled(False)
    return simulator


def test_the_first_version_turns_and_moves_one_environment(folder):
    simulator = configured(SingleSimulator(), folder)
    simulator.init()
    simulator.newEpisode("house", "a", 0.1, 0)
    state = simulator.getState()
    assert (state.scanId, state.location.viewpointId, state.viewIndex) == ("house", "a", 12)
    assert state.location.point == [0, 0, 0]
    assert [place.viewpointId for place in state.navigableLocations] == ["a", "b"]
    assert state.navigableLocations[1].rel_distance == 2
    simulator.makeAction(1, 1.0, -1.0)
    after = simulator.getState()
    assert (after.location.viewpointId, after.viewIndex, after.step) == ("b", 1, 1)
    assert after.heading == pytest.approx(math.pi / 6)
    assert (state.location.viewpointId, state.step) == ("a", 0)


def test_the_second_version_steps_a_batch(folder):
    simulator = configured(BatchSimulator(), folder)
    simulator.setBatchSize(2)
    simulator.initialize()
    simulator.newEpisode(["house", "house"], ["a", "c"], [0.0, math.pi], [0.0, 0.0])
    simulator.makeAction([1, 1], [0, 1], [0, 0])
    assert [s.location.viewpointId for s in simulator.getState()] == ["b", "d"]
    assert [s.viewIndex for s in simulator.getState()] == [12, 19]
    assert simulator.timingInfo().startswith("makeAction: 1 calls")
    with pytest.raises(SimulatorError, match="setBatchSize"):
        simulator.makeAction([0], [0], [0])


def test_hannas_build_turns_by_multiples(folder):
    simulator = configured(BatchSimulator(hanna=True), folder)
    simulator.newEpisode(["house"], ["a"], [0.0], [0.0])
    simulator.makeAction([0], [-3], [0])
    assert simulator.getState()[0].viewIndex == 21


def test_all_neighbors_are_listed_without_restriction(folder):
    simulator = configured(BatchSimulator(), folder)
    simulator.setRestrictedNavigation(False)
    simulator.newEpisode(["house"], ["a"], [0.0], [0.0])
    assert len(simulator.getState()[0].navigableLocations) == 3


def test_random_starts_repeat_with_the_seed_of_each_simulator(folder):
    def starts(seed):
        simulator = configured(SingleSimulator(), folder)
        simulator.setSeed(seed)
        found = []
        for _ in range(20):
            simulator.newEpisode("other")
            found.append(simulator.getState().location.viewpointId)
        return found

    assert starts(1) == starts(1)
    assert starts(1) != starts(2)
    batch = configured(BatchSimulator(), folder)
    batch.newRandomEpisode(["other"])
    assert batch.getState()[0].scanId == "other"


def test_elevation_limits_are_checked_as_in_the_original(folder):
    simulator = SingleSimulator()
    simulator.setNavGraphPath(folder)
    assert simulator.setElevationLimits(-0.5, 0.3)
    assert not simulator.setElevationLimits(0.1, 0.3)
    assert not simulator.setElevationLimits(-2, 0.3)
    simulator.newEpisode("house", "a", 0, -1)
    assert simulator.getState().elevation == -0.5


@pytest.mark.parametrize("call", ["setRenderingEnabled", "setDepthEnabled"])
def test_rendering_is_refused_with_a_way_out(call):
    with pytest.raises(SimulatorError, match="precomputed features"):
        getattr(BatchSimulator(), call)(True)


@pytest.mark.parametrize(
    ("scan", "viewpoint"), [("castle", "a"), ("house", "nowhere")], ids=["scan", "viewpoint"]
)
def test_bad_starts_raise_value_errors(folder, scan, viewpoint):
    simulator = configured(SingleSimulator(), folder)
    with pytest.raises(ValueError, match=scan if scan == "castle" else viewpoint):
        simulator.newEpisode(scan, viewpoint)
    simulator.newEpisode("house", "a")
    for index in (-1, 9):
        with pytest.raises(ValueError, match=f"action index {index}"):
            simulator.makeAction(index, 0, 0)
