"""The panoramic environment against EnvDrop's recorded observations."""

import gzip
import itertools
import json

import numpy as np
import pytest
import torch

from prevalent.data.features import DeviceFeatures, expand_angles, synthetic_features
from prevalent.environments.navigation import DictionaryObservations, Episode, NavigationEnvironment
from prevalent.simulator import SimulatorError
from prevalent.simulator.geometry import angle_table
from tests.factories import make_graphs, random_scan, tasks_in

TOLERANCE = 1e-6


def episode_of(item):
    return Episode(item["scan"], tuple(item["path"]), item["heading"], item["instr_id"])


def compare_dictionary(ours, recorded):
    for key in ("instr_id", "scan", "viewpoint", "viewIndex", "teacher"):
        assert ours[key] == recorded[key]
    for key in ("heading", "elevation", "distance"):
        assert ours[key] == pytest.approx(recorded[key], abs=TOLERANCE)
    for mine, theirs in zip(ours["candidate"], recorded["candidate"], strict=True):
        assert set(mine) - {"feature"} == set(theirs)
        for key, value in theirs.items():
            wanted = pytest.approx(value, abs=TOLERANCE) if isinstance(value, float) else value
            assert mine[key] == wanted
    places = zip(ours["navigableLocations"], recorded["navigableLocations"], strict=True)
    for mine, theirs in places:
        assert mine[0] == theirs[0]
        assert list(mine[1:]) == pytest.approx(theirs[1:], abs=TOLERANCE)


def compare_dictionaries(ours, recorded):
    for mine, theirs in zip(ours, recorded, strict=True):
        compare_dictionary(mine, theirs)


def compare_inputs(observation, device, arrays, prefix):
    """What the decoder receives."""
    close = {"rtol": 0, "atol": TOLERANCE}
    pose = expand_angles(torch.from_numpy(observation.pose), device.angle_size, device.layout)
    np.testing.assert_allclose(pose, arrays[f"{prefix}input_a_t"], **close)
    panorama = device.panorama(observation.row, observation.view)
    np.testing.assert_allclose(panorama, arrays[f"{prefix}f_t"], **close)
    candidates = device.candidates(
        observation.row, observation.candidate_view, observation.candidate_angle
    )
    np.testing.assert_allclose(candidates, arrays[f"{prefix}cand_feat"], **close)


def compare_walks(ours, recorded):
    for mine, theirs in zip(ours, recorded, strict=True):
        assert [p[0] for p in mine] == [p[0] for p in theirs]
        angles = np.array([p[1:] for p in theirs])
        np.testing.assert_allclose([p[1:] for p in mine], angles, rtol=0, atol=TOLERANCE)


def replay(graphs, case, arrays):
    names = [graphs.long_id(n) for s in case["scans"] for n in graphs.nodes_of(s)]
    store, size = synthetic_features(names, case["feature_dim"]), case["angle_feat_size"]
    device = DeviceFeatures(store, angle_size=size)
    environment = NavigationEnvironment(graphs, store.rows)
    dictionaries = DictionaryObservations(
        environment, store.array, angle_size=size, first_visit_keys=True
    )
    recorded = arrays["angle_feature_36x36"]
    ours = angle_table(size)[..., : recorded.shape[-1]]
    np.testing.assert_allclose(ours, recorded, rtol=0, atol=TOLERANCE)
    for b, batch in enumerate(case["batches"]):
        observation = environment.reset([episode_of(item) for item in batch["items"]])
        for t, step in enumerate(batch["steps"]):
            compare_dictionaries(dictionaries.build(observation), step["obs"])
            compare_inputs(observation, device, arrays, f"b{b}_t{t}_")
            assert (observation.count + 1).tolist() == step["candidate_leng"]
            live = ~np.array(step["ended_before"])
            wanted = np.array(step["teacher_index"])
            np.testing.assert_array_equal(observation.teacher[live], wanted[live])
            observation = environment.step(np.array(step["action_taken"]))
        compare_dictionaries(dictionaries.build(observation), batch["final_obs"])
        compare_walks(environment.trajectories(), batch["traj"])


@pytest.mark.golden
def test_observations_and_walks_equal_those_of_envdrop(golden, real_graphs):
    paths = sorted((golden / "env").glob("env_r2r_*.json.gz"))
    if not paths:
        pytest.skip("no recorded panoramic environment")
    for path in paths:
        with np.load(str(path).replace(".json.gz", ".npz")) as file:
            arrays = dict(file)
        replay(real_graphs, json.loads(gzip.decompress(path.read_bytes())), arrays)


def world():
    return make_graphs(one=random_scan(1), two=random_scan(2, size=30))


def test_following_the_teacher_walks_the_shortest_path():
    graphs = world()
    environment, tasks = NavigationEnvironment(graphs), tasks_in(graphs, 9)
    observation, length = environment.reset(tasks), np.zeros(9)
    start = observation.distance
    while (observation.teacher < observation.count).any():
        before = observation.node
        observation = environment.step(observation.teacher)
        length += graphs.distance(before, observation.node)
    np.testing.assert_allclose(length, start)
    assert (observation.distance == 0).all()
    for walk, task in zip(environment.poses(), tasks, strict=True):
        assert [pose[0] for pose in walk] == list(task.path)


def test_an_agent_does_not_depend_on_its_batch():
    graphs = world()
    tasks = tasks_in(graphs, 6)
    together, alone = NavigationEnvironment(graphs), NavigationEnvironment(graphs)
    joint, single = together.reset(tasks), alone.reset(tasks[3:4])
    for _ in range(5):
        n = int(single.count[0])
        assert joint.count[3] == n
        assert joint.teacher[3] == single.teacher[0]
        np.testing.assert_array_equal(joint.candidate_angle[3, : n + 1], single.candidate_angle[0])
        np.testing.assert_array_equal(joint.target[3, : n + 1], single.target[0])
        assert not joint.candidate_angle[3, n:].any()
        assert joint.mask[3].sum() == n + 1
        joint, single = together.step(joint.count * 0), alone.step(np.array([0]))


def test_stop_and_minus_one_stay_and_are_not_logged():
    graphs = world()
    environment = NavigationEnvironment(graphs)
    observation = environment.reset(tasks_in(graphs, 2))
    after = environment.step(np.array([-1, observation.count[1]]))
    np.testing.assert_array_equal(after.node, observation.node)
    assert [len(walk) for walk in environment.trajectories()] == [1, 1]


def test_micro_steps_turn_right_by_one_view_at_a_time():
    graphs = world()
    environment = NavigationEnvironment(graphs)
    observation = environment.reset(tasks_in(graphs, 4))
    for _ in range(6):
        observation = environment.step(observation.count - 1)
    for walk in environment.trajectories():
        for (before, heading, tilt), (after, turned, tilted) in itertools.pairwise(walk):
            if before != after:
                assert (heading, tilt) == (turned, tilted)
            else:
                right = round((turned - heading) / (np.pi / 6)) % 12
                assert (right, tilted == tilt) in ((1, True), (0, False))


def test_a_bad_action_names_item_and_range():
    graphs = world()
    environment = NavigationEnvironment(graphs)
    observation = environment.reset(tasks_in(graphs, 2))
    with pytest.raises(SimulatorError, match="item '1_0': action 99"):
        environment.step(np.array([0, 99]))
    with pytest.raises(SimulatorError, match="must be 2 integers"):
        environment.step(observation.teacher.astype(float))


def test_missing_features_and_viewpoints_are_named():
    graphs = world()
    rows = {graphs.long_id(n): i for i, n in enumerate(graphs.nodes_of("one")[:-1])}
    environment = NavigationEnvironment(graphs, rows)
    missing = graphs.long_id(graphs.nodes_of("one")[-1])
    with pytest.raises(SimulatorError, match=missing):
        environment.reset(tasks_in(graphs, 1))
    with pytest.raises(SimulatorError, match="no viewpoint 'nowhere'"):
        NavigationEnvironment(graphs).reset([Episode("one", ("nowhere",))])
