"""The panoramic environment against EnvDrop's recorded observations."""

from __future__ import annotations

import gzip
import itertools
import json

import numpy as np
import pytest
import torch

from prevalent.data.features import DeviceFeatures, expand_angles, synthetic_features
from prevalent.environments.navigation import (
    DictionaryObservations,
    Episode,
    NavigationEnvironment,
    PathEnvironment,
    Walk,
    turns_between,
)
from prevalent.simulator import SimulatorError
from prevalent.simulator.geometry import angle_table
from tests.factories import make_graphs, make_scan, random_scan, tasks_in

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


@pytest.mark.parametrize(
    ("view", "target", "passed"),
    [
        (12, 12, []),
        (12, 14, [13, 14]),
        (14, 12, [15, 16, 17, 18, 19, 20, 21, 22, 23, 12]),
        (12, 25, [24, 25]),
        (0, 25, [12, 24, 25]),
        (35, 0, [23, 11, 0]),
    ],
)
def test_an_agent_tilts_first_and_then_turns_right(view, target, passed):
    assert turns_between(view, target) == passed


def test_logs_hold_the_start_and_every_move():
    graphs = make_graphs()
    walk = Walk(graphs)
    walk.begin([Episode("house", ("a", "c"), 0.0, "x")])
    b = graphs.nodes(["house"], ["b"])
    walk.go(b, np.array([12]))
    walk.go(b, np.array([12]))
    walk.go(graphs.nodes(["house"], ["c"]), np.array([15]))
    assert [pose[0] for pose in walk.poses()[0]] == ["a", "b", "c"]
    micro = walk.micro_poses()[0]
    assert [pose[0] for pose in micro] == ["a", "b", "b", "b", "b", "c"]
    assert walk.pose(0) == ("c", pytest.approx(np.pi / 2), 0.0)


def test_headings_snap_and_rows_are_looked_up():
    graphs = make_graphs()
    walk = Walk(graphs, {f"house_{name}": i + 5 for i, name in enumerate("abcd")})
    walk.begin([Episode("house", ("b", "a"), 1.6), Episode("house", ("d",), 6.2)])
    assert walk.view.tolist() == [15, 12]
    assert walk.row.tolist() == [6, 8]
    assert walk.goal.tolist() == [0, 3]


def test_a_goal_out_of_reach_is_named():
    graphs = make_graphs(house=make_scan(edges=[("a", "b"), ("c", "d")]), other=random_scan(1))
    with pytest.raises(SimulatorError, match="item 'x': viewpoint 'd' cannot be reached"):
        Walk(graphs).begin([Episode("house", ("a", "d"), id="x")])


def test_features_of_an_isolated_viewpoint_are_not_asked_for():
    graphs = make_graphs(house=make_scan(edges=[("a", "b"), ("b", "c")]))
    Walk(graphs, {"house_a": 0, "house_b": 1, "house_c": 2}).begin([Episode("house", ("a", "c"))])
    with pytest.raises(SimulatorError, match=r"lacks 1 of 3 viewpoints .* 'house_c'"):
        Walk(graphs, {"house_a": 0, "house_b": 1}).begin([Episode("house", ("a", "c"))])


def observed(first_visit_keys):
    graphs = make_graphs(one=random_scan(1))
    store = synthetic_features([graphs.long_id(n) for n in graphs.nodes_of("one")], 6)
    environment = NavigationEnvironment(graphs, store.rows)
    dictionaries = DictionaryObservations(
        environment, store.array, angle_size=8, first_visit_keys=first_visit_keys
    )
    observation = environment.reset(tasks_in(graphs, 3))
    return store, observation, dictionaries


def test_candidates_lack_two_keys_at_a_repeat_visit_only_in_the_authors_way():
    for quirk, missing in ((False, set()), (True, {"normalized_heading", "distance"})):
        _, observation, dictionaries = observed(quirk)
        first = dictionaries.build(observation)[0]["candidate"][0]
        again = dictionaries.build(observation)[0]["candidate"][0]
        assert set(first) - set(again) == missing
        assert first["heading"] == again["heading"]


def test_features_are_images_with_angles():
    store, observation, dictionaries = observed(False)
    for i, entry in enumerate(dictionaries.build(observation)):
        assert entry["feature"].shape == (36, 14)
        np.testing.assert_array_equal(entry["feature"][:, :6], store.array[observation.row[i]])
        candidate = entry["candidate"][0]
        image = store.array[observation.row[i], candidate["pointId"]]
        np.testing.assert_array_equal(candidate["feature"][:6], image)
        angle = observation.candidate_angle[i, 0]
        np.testing.assert_allclose(candidate["feature"][6:10], angle, atol=1e-6)


def test_features_can_be_left_out():
    _, observation, dictionaries = observed(False)
    dictionaries.table = None
    assert "feature" not in dictionaries.build(observation)[0]


def test_a_teacher_of_the_path_leads_through_all_of_it():
    graphs = make_graphs()  # a square a - b - c - d of 2 m sides, c half a meter up
    task = Episode("house", tuple("abcda"), 0.0, "1_0")  # once around: its goal is its start
    environment = PathEnvironment(graphs)
    seen = environment.reset([task, Episode("house", ("a",))])
    length = float(
        sum(graphs.by_name("house").distance(a, b) for a, b in itertools.pairwise("abcda"))
    )
    assert seen.distance.tolist() == [pytest.approx(length), 0.0]
    assert seen.teacher[1] == seen.count[1]
    walked = []
    while (seen.teacher != seen.count).any():
        walked.append(graphs.viewpoints[seen.target[0, seen.teacher[0]]])
        before = seen.distance[0]
        seen = environment.step(np.where(seen.teacher == seen.count, -1, seen.teacher))
        assert seen.distance[0] < before
    assert walked == list("bcda")
    assert seen.distance[0] == 0
    plain = NavigationEnvironment(graphs).reset([task])
    assert plain.teacher[0] == plain.count[0]  # which is led to the goal, where it stands


def test_a_teacher_of_the_path_leads_back_to_it():
    graphs = make_graphs()
    environment = PathEnvironment(graphs)
    seen = environment.reset([Episode("house", tuple("abc"))])
    away = int(np.flatnonzero(seen.target[0] == graphs.node("house", "d"))[0])
    seen = environment.step([away])
    assert graphs.viewpoints[environment.wanted()[0]] == "b"
    assert seen.distance[0] == pytest.approx(4 + graphs.by_name("house").distance("b", "c"))
    ways = {graphs.viewpoints[seen.target[0, seen.teacher[0]]]}
    assert ways <= {"a", "c"}
