"""Every public entry point of simulators and environments refuses what it cannot use, unchanged."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from prevalent.environments.hanna import Anna, HannaEnvironment
from prevalent.environments.low_level import LowLevelEnvironment
from prevalent.environments.navigation import Episode, NavigationEnvironment, PathEnvironment
from prevalent.environments.panorama import NDHEnvironment, PanoramicEnvironment
from prevalent.MatterSim import Simulator as Version2
from prevalent.MatterSim.v1 import Simulator as Version1
from prevalent.simulator import SimulatorError
from prevalent.simulator.geometry import Camera, angle_features, nearest_view
from prevalent.simulator.simulator import Simulator
from tests.factories import make_graphs, make_scan

GOOD = [Episode("house", ("a", "b", "c"), 0.5, "good")]
ENVIRONMENTS = (
    *(NavigationEnvironment, PathEnvironment, PanoramicEnvironment, NDHEnvironment),
    LowLevelEnvironment,
)


def episode(path=("a", "b", "c"), heading=0.0, scan="house"):
    return Episode(scan, path, heading, "bad")


def state(environment):
    walk = [array.tolist() for pair in environment._log for array in pair]
    taken = len(getattr(environment, "_taken", ()))
    ids = [task.id for task in environment.tasks]
    arrays = (environment.node, environment.view, environment.goal)
    return walk, taken, ids, [array.tolist() for array in arrays]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([episode(heading=math.nan)], "item 'bad': the heading must be a finite number .* nan"),
        ([episode(heading=-math.inf)], "finite number of radians, got -inf"),
        ([episode(heading=None)], "finite number of radians, got None"),
        ([episode(heading="north")], "finite number of radians, got 'north'"),
        ([episode(heading=True)], "finite number of radians, got True"),
        ([episode(heading=[1.0, 2.0])], r"finite number of radians, got \[1.0, 2.0\]"),
        ([episode(path=())], r"item 'bad': the path must be a list of viewpoints.*got \(\)"),
        ([episode(path=None)], "the path must be a list of viewpoints"),
        ([episode(path="ab")], "the path must be a list of viewpoints.*got 'ab'"),
        ([episode(path=("a", "nowhere", "c"))], "item 'bad': .* no viewpoint 'nowhere'"),
        ([episode(path=(0, 1))], "item 'bad': .* no viewpoint 0"),
        ([episode(scan="castle")], "item 'bad': scan 'castle' is not loaded"),
        ([GOOD[0], "a"], "task 1 is 'a', which has no 'id'"),
        ("house", "tasks must be a list, got 'house'"),
        (5, "tasks must be a list, got 5"),
        (None, "tasks must be a list, got None"),
    ],
)
@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_tasks_that_cannot_be_walked_are_refused_and_change_nothing(kind, tasks, message):
    environment = kind(make_graphs(house=make_scan()))
    environment.reset(GOOD)
    before = state(environment)
    with pytest.raises(SimulatorError, match=message):
        environment.reset(tasks)
    assert state(environment) == before
    environment.step([-1])


@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_bad_steps_and_goals_change_nothing_and_none_is_taken_before_the_start(kind):
    environment = kind(make_graphs(house=make_scan()))
    calls = [environment.starts, environment.walked, lambda: environment.step([0])]
    for call in (*calls, environment.trajectories) if hasattr(kind, "trajectories") else calls:
        with pytest.raises(SimulatorError, match=r"no agent has been placed; call reset"):
            call()
    environment.reset(GOOD)
    before = state(environment)
    for action in ([[0], [0, 1]], [None], ["a"], [0, 0], [math.nan], [True], [99]):
        with pytest.raises(SimulatorError):
            environment.step(action)
    for goal in ([-1], [99], [0, 1], [0.5], [math.nan], "a"):
        with pytest.raises(SimulatorError):
            environment.set_goals(np.array(goal))
    if kind in (NDHEnvironment, LowLevelEnvironment):
        step = environment.step if kind is NDHEnvironment else environment.step_raw
        for ended in ([True, False], "no", [1.5]):
            with pytest.raises(SimulatorError, match="ended must be 1 truth values or one"):
                step([0] if kind is NDHEnvironment else [[0, 0, 0]], ended=ended)
    with pytest.raises(SimulatorError, match="there is no agent 5"):
        environment.pose(5)
    assert state(environment) == before


def test_hannas_searches_and_messages_are_checked_before_anything_changes():
    graphs = make_graphs(house=make_scan())
    environment = HannaEnvironment(graphs, Anna(graphs, []))
    one = {"id": "1", "scan": "house", "path": ("a", "c"), "heading": 0.0, "text": "find it"}
    environment.search([SimpleNamespace(**one, goals=["c"])], "train")
    before = state(environment)
    for goals, message in (([], "one at least"), (["x"], "item '1': .*'x'"), (None, "got None")):
        with pytest.raises(SimulatorError, match=message):
            environment.search([SimpleNamespace(**one, goals=goals)], "train")
    for messages in ([], ["go"], None):
        with pytest.raises(SimulatorError, match="messages must be"):
            environment.act([0], messages)
    assert state(environment) == before
    assert not environment.ended.any()


def test_graphs_refuse_what_is_no_node():
    graphs = make_graphs(house=make_scan())
    for call in (graphs.distance, graphs.next_hop, graphs.adjacent, graphs.path):
        for a in (-1, 99, 0.5, math.nan, "a", None):
            with pytest.raises(SimulatorError, match="node"):
                call(a, 0)
    for call in (graphs.scan_of, graphs.long_id):
        with pytest.raises(SimulatorError, match="node 99 is out of range"):
            call(99)
    with pytest.raises(SimulatorError, match="there are 1 scans for 2 viewpoints"):
        graphs.nodes(["house"], ["a", "b"])


@pytest.mark.parametrize("discretized", [True, False])
def test_the_simulator_refuses_lists_that_are_none(discretized):
    simulator = Simulator(make_graphs(house=make_scan()), discretized=discretized)
    simulator.new_episode(["house"], ["a"], 0.0)
    before = simulator.node.tolist(), simulator.heading.tolist(), simulator.steps.tolist()
    ragged = [[0], [1, 2]]
    for call in (
        lambda: simulator.new_episode(None, None, 0.0),
        lambda: simulator.new_episode("house", "a", 0.0),
        lambda: simulator.new_episode(["house"] * 2, ["a"], 0.0),
        lambda: simulator.new_random_episode(None),
        lambda: simulator.new_random_episode("house"),
        lambda: simulator.start(ragged, 0.0),
        lambda: simulator.step(ragged, 0.0, 0.0),
        lambda: simulator.step([0], ragged, 0.0),
    ):
        with pytest.raises(SimulatorError):
            call()
    assert before == (simulator.node.tolist(), simulator.heading.tolist(), simulator.steps.tolist())


@pytest.mark.parametrize(
    "options",
    [
        {"elevation_limits": (math.nan, 0.5)},
        {"elevation_limits": "ab"},
        {"elevation_limits": (-0.5, 0.1, 0.5)},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": "x"},
        {"camera": "wide"},
    ],
)
def test_a_simulator_is_not_built_of_values_that_are_none(options):
    with pytest.raises(SimulatorError):
        Simulator(make_graphs(house=make_scan()), **options)


def test_angles_and_cameras_are_checked():
    for layout, size in (("blok", 4), (None, 4), ("block", 4.0), ("block", True), ("block", 6)):
        with pytest.raises(ValueError, match="angle"):
            angle_features(0.0, 0.0, size, layout)
    for heading, elevation in ((math.nan, 0.0), (0.0, math.inf)):
        with pytest.raises(ValueError, match="finite"):
            nearest_view(heading, elevation)
    for vfov in ("wide", None, True, math.nan):
        with pytest.raises(ValueError, match="vfov must lie between"):
            Camera(vfov=vfov)


@pytest.mark.parametrize(
    ("call", "values"),
    [
        ("setBatchSize", (1.5, "2", None, True, 0)),
        ("setCacheSize", (1.5, "2", None, True, 0)),
        ("setSeed", (-1, 1.5, "x", None, True)),
        ("setNavGraphPath", (None, 3, "")),
        ("setDatasetPath", (None, 3, "")),
        ("setDiscretizedViewingAngles", ("no", None, 2)),
        ("setRenderingEnabled", ("no", None, 2)),
        ("setDepthEnabled", ("no", None, 2)),
        ("setPreloadingEnabled", ("no", None)),
        ("setRestrictedNavigation", ("no", None, 2)),
        ("setCameraVFOV", ("wide", None, math.nan, 4)),
        ("setElevationLimits", ("low", None)),
    ],
)
def test_settings_of_mattersim_are_checked(call, values):
    for kind in (Version1, Version2):
        if not hasattr(kind, call):
            continue
        for value in values:
            words = (value, 0.5) if call == "setElevationLimits" else (value,)
            simulator = kind()
            before = {name: one for name, one in vars(simulator).items() if name != "_began"}
            with pytest.raises(SimulatorError):
                getattr(simulator, call)(*words)
            after = {name: one for name, one in vars(simulator).items() if name != "_began"}
            assert after == before


def test_mattersim_refuses_batches_without_an_order():
    simulator = Version2()
    for scans in ({"house"}, {"house": 1}):
        with pytest.raises(SimulatorError, match="must be a list of 1 values"):
            simulator.newRandomEpisode(scans)
    with pytest.raises(SimulatorError, match="multiple_turns must be True or False"):
        Version2(multiple_turns="yes")
