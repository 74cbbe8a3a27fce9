"""The panoramic action space against recorded collections, caches and HANNA's table."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import torch

from prevalent.data.features import DeviceFeatures, synthetic_features
from prevalent.environments.low_level import END, FORWARD, LEFT, RIGHT, UP, LowLevelEnvironment
from prevalent.environments.navigation import Episode
from prevalent.environments.panorama import (
    NDHEnvironment,
    PanoramicEnvironment,
    hanna_action_space,
    read_navigable_locs,
    write_navigable_locs,
)
from prevalent.simulator import SimulatorError
from tests.factories import make_graphs, make_scan, random_scan, tasks_in

TOLERANCE = 1e-6
ENTRY = ["absViewIndex", "rel_heading", "rel_elevation"]


@pytest.fixture(scope="module")
def collected(golden):
    path = golden / "pretrain_data" / "pretrain_data.json.gz"
    if not path.is_file():
        pytest.skip("no recorded triplets")
    return json.loads(gzip.decompress(path.read_bytes()))


def episodes(case, names):
    items = {str(item["path_id"]): item for item in case["items"]}
    picked = [(name, items[name.rsplit("_", 1)[0]]) for name in names]
    return [Episode(i["scan"], tuple(i["path"]), i["heading"], name) for name, i in picked]


def action_entries(seen, i):
    return np.stack([seen.candidate_view[i], seen.rel_heading[i], seen.rel_elevation[i]], axis=1)[
        1 : seen.count[i]
    ]


@pytest.mark.golden
def test_first_observations_equal_the_recorded_ones(collected, golden, real_graphs):
    recorded = collected["first_batch_obs"]
    tasks = episodes(collected, [o["instr_id"] for o in recorded])
    names = [real_graphs.long_id(n) for t in tasks for n in real_graphs.nodes_of(t.scan)]
    store = synthetic_features(list(dict.fromkeys(names)), collected["feature_dim"])
    seen = PanoramicEnvironment(real_graphs, store.rows).reset(tasks)
    device = DeviceFeatures(store, layout="block")
    for i, theirs in enumerate(recorded):
        actions = theirs["adj_loc_list"]
        assert (seen.view[i], seen.teacher[i]) == (theirs["viewIndex"], theirs["teacher"])
        ahead = [real_graphs.viewpoints[n] for n in seen.target[i, : seen.count[i]]]
        assert ahead == [a["nextViewpointId"] for a in actions]
        wanted = np.array([[a[key] for key in ENTRY] for a in actions[1:]])
        np.testing.assert_allclose(action_entries(seen, i), wanted, rtol=0, atol=TOLERANCE)
    with np.load(golden / "pretrain_data" / "pretrain_data.npz") as file:
        arrays = dict(file)
    close = {"rtol": 0, "atol": TOLERANCE}
    panorama = device.panorama(seen.row, seen.view)
    for name, ours in (("all", panorama), ("1", device.single(seen.row, seen.view))):
        if f"b0_feature_{name}" in arrays:
            recorded_feature = arrays[f"b0_feature_{name}"]
            np.testing.assert_allclose(
                ours.reshape(recorded_feature.shape), recorded_feature, **close
            )
    embedding = device.candidates(seen.row, seen.candidate_view, seen.candidate_angle)
    for i in range(len(tasks)):
        theirs = arrays.get(f"b0_action_embedding_{i}")
        if theirs is not None:
            np.testing.assert_allclose(embedding[i, : seen.count[i]], theirs, **close)


@pytest.mark.golden
def test_following_the_teacher_gives_the_recorded_triplets(collected, real_graphs):
    recorded = collected["collected_bs1"]
    environment = PanoramicEnvironment(real_graphs)
    seen = environment.reset(episodes(collected, [r["instr_id"] for r in recorded]))
    steps = [[] for _ in recorded]
    for t in range(max(len(r["path"]) for r in recorded)):
        for i, theirs in enumerate(recorded):
            if t < len(theirs["path"]):
                action = seen.teacher[i]
                entry = action_entries(seen, i)[action - 1] if action else [-1, 90, 90]
                place = real_graphs.viewpoints[seen.node[i]]
                pose = [seen.view[i], seen.heading[i], seen.elevation[i]]
                steps[i].append((place, pose, action, entry))
        seen = environment.step(seen.teacher)
    for ours, theirs in zip(steps, recorded, strict=True):
        assert [s[0] for s in ours] == [p[1] for p in theirs["path"]]
        poses = np.array([p[2:] for p in theirs["path"]])
        np.testing.assert_allclose([s[1] for s in ours], poses, rtol=0, atol=TOLERANCE)
        assert [s[2] for s in ours] == theirs["teacher_actions"]
        entries = np.array(theirs["teacher_action_emd"])
        np.testing.assert_allclose([s[3] for s in ours], entries, rtol=0, atol=TOLERANCE)


@pytest.mark.golden
def test_the_cache_of_neighbors_equals_the_recorded_one(collected, real_graphs, tmp_path):
    recorded = next(v for k, v in collected.items() if k.startswith("navigable_locs"))
    write_navigable_locs(tmp_path / "locs.json", real_graphs, recorded)
    ours = json.loads((tmp_path / "locs.json").read_text())
    for scan, viewpoints in recorded.items():
        assert set(ours[scan]) == set(viewpoints)
        for name, (neighbors, by_view) in viewpoints.items():
            mine, mine_by_view = ours[scan][name]
            assert list(mine) == list(neighbors)
            assert mine_by_view == by_view
            for other, entry in neighbors.items():
                for key, value in entry.items():
                    same = (
                        pytest.approx(value, abs=TOLERANCE) if value.__class__ is float else value
                    )
                    assert mine[other][key] == same


@pytest.mark.golden
def test_hannas_action_space_equals_the_recorded_one(golden, real_graphs):
    path = golden / "hanna" / "panoramic_action_space.json.gz"
    if not path.is_file():
        pytest.skip("no recorded action space of HANNA")
    recorded = json.loads(gzip.decompress(path.read_bytes()))
    ours = hanna_action_space(real_graphs, sorted({key.split("_")[0] for key in recorded}))
    for key, actions in recorded.items():
        for mine, theirs in zip(ours[key], actions, strict=True):
            assert set(mine) == set(theirs)
            for name, value in theirs.items():
                same = pytest.approx(value, abs=TOLERANCE) if value.__class__ is float else value
                assert mine[name] == same


def world():
    return make_graphs(one=random_scan(1), two=random_scan(2, size=30))


def test_a_cache_that_was_written_gives_the_same_observations(tmp_path):
    graphs = world()
    write_navigable_locs(tmp_path / "locs.json", graphs)
    read = read_navigable_locs(tmp_path / "locs.json", graphs)
    ours, theirs = PanoramicEnvironment(graphs), PanoramicEnvironment(graphs, candidates=read)
    tasks = tasks_in(graphs, 6)
    a, b = ours.reset(tasks), theirs.reset(tasks)
    for _ in range(4):
        np.testing.assert_array_equal(a.target, b.target)
        np.testing.assert_allclose(a.rel_heading, b.rel_heading, atol=1e-12)
        np.testing.assert_allclose(a.candidate_angle, b.candidate_angle, atol=1e-6)
        a, b = ours.step(a.teacher), theirs.step(a.teacher)


def test_a_cache_of_another_graph_is_refused(tmp_path):
    write_navigable_locs(tmp_path / "locs.json", make_graphs(one=random_scan(1)))
    changed = json.loads((tmp_path / "locs.json").read_text())
    next(iter(changed["one"].values()))[0].popitem()
    (tmp_path / "locs.json").write_text(json.dumps(changed))
    with pytest.raises(SimulatorError, match="lists other neighbors"):
        read_navigable_locs(tmp_path / "locs.json", make_graphs(one=random_scan(1)))


def test_actions_are_sorted_by_turning_angle_and_stop_comes_first():
    graphs = world()
    environment = PanoramicEnvironment(graphs)
    seen = environment.reset(tasks_in(graphs, 8))
    for _ in range(4):
        np.testing.assert_array_equal(seen.target[:, 0], seen.node)
        assert not seen.candidate_angle[:, 0].any()
        for i in range(8):
            turns = np.abs(seen.rel_heading[i, 1 : seen.count[i]])
            assert (np.diff(turns) >= 0).all()
            assert (turns <= np.pi + 1e-9).all()
        seen = environment.step(seen.count - 1)


def test_following_the_teacher_ends_at_the_goal():
    graphs = world()
    environment, tasks = PanoramicEnvironment(graphs), tasks_in(graphs, 8)
    seen = environment.reset(tasks)
    while seen.teacher.any():
        seen = environment.step(seen.teacher)
    assert (seen.distance == 0).all()
    for walk, task in zip(environment.poses(), tasks, strict=True):
        assert [pose[0] for pose in walk] == list(task.path)


def test_features_of_stop_and_padding_are_zero_in_both_tables():
    graphs = world()
    names = [graphs.long_id(n) for n in range(len(graphs.viewpoints))]
    store = synthetic_features(names, 8)
    seen = PanoramicEnvironment(graphs, store.rows).reset(tasks_in(graphs, 5))
    given = (seen.row, seen.candidate_view, seen.candidate_angle)
    kept = DeviceFeatures(store, layout="block").candidates(*given)
    streamed = DeviceFeatures(store, layout="block", resident=False).candidates(*given)
    torch.testing.assert_close(kept, streamed, rtol=0, atol=0)
    assert not kept[:, 0].any()
    assert not kept[~torch.from_numpy(seen.mask)].any()


def start(count=5):
    graphs = make_graphs(one=random_scan(1), two=random_scan(2))
    environment = NDHEnvironment(graphs)
    return environment, environment.reset(tasks_in(graphs, count))


def test_following_the_teacher_arrives_and_logs_one_pose_a_move():
    environment, seen = start()
    ended = np.zeros(5, dtype=bool)
    for _ in range(40):
        ended = ended | (seen.teacher == 0)
        seen = environment.step(seen.teacher, ended)
        if ended.all():
            break
    assert (seen.distance == 0).all()
    for walk, task in zip(environment.trajectories(), environment.tasks, strict=True):
        assert [pose[0] for pose in walk] == list(task.path)


def test_an_agent_that_ended_may_move_without_being_logged():
    environment, _ = start(2)
    environment.step(np.array([1, 1]), np.array([False, True]))
    seen = environment.step(np.array([1, 0]), np.array([True, True]))
    walks = environment.trajectories()
    assert [len(walk) for walk in walks] == [2, 1]
    assert environment.graphs.viewpoints[seen.node[0]] != walks[0][-1][0]


def test_a_new_episode_forgets_the_last_one():
    environment, _ = start(2)
    environment.step(np.array([1, 1]))
    environment.reset(environment.tasks)
    assert [len(walk) for walk in environment.trajectories()] == [1, 1]


def test_agents_start_level():
    assert (start()[1].elevation == 0).all()


def square(heading=0.0, path=("a", "b")):
    environment = LowLevelEnvironment(make_graphs())
    return environment, environment.reset([Episode("house", path, heading, "1")])


def test_the_teacher_goes_to_a_viewpoint_in_view_and_ends_at_the_goal():
    environment, seen = square()
    assert seen.teacher.tolist() == [FORWARD]
    seen = environment.step(np.array([FORWARD]))
    assert seen.distance.tolist() == [0]
    assert seen.teacher.tolist() == [END]
    assert [pose[0] for pose in environment.trajectories()[0]] == ["a", "b"]


@pytest.mark.parametrize(
    ("heading", "action"), [(90, LEFT), (270, RIGHT), (180, RIGHT), (210, RIGHT), (150, LEFT)]
)
def test_the_teacher_turns_the_short_way_and_right_when_both_are_equal(heading, action):
    assert square(np.deg2rad(heading))[1].teacher.tolist() == [action]


def test_the_teacher_looks_back_to_the_horizon_before_it_searches():
    environment, _ = square(np.pi)
    seen = environment.step_raw([[0, 0, -1]])
    assert seen.view.tolist() == [6]
    assert seen.teacher.tolist() == [UP]


def test_the_teacher_tilts_up_to_a_steep_viewpoint_but_no_further_than_it_can():
    steep = make_scan({"a": (0, 0, 0), "b": (0, 1, 9)}, [("a", "b")])
    environment = LowLevelEnvironment(make_graphs(house=steep))
    seen = environment.reset([Episode("house", ("a", "b"), id="1")])
    assert seen.teacher.tolist() == [UP]
    assert environment.step(np.array([UP])).teacher.tolist() == [FORWARD]


def test_following_the_teacher_steps_arrives():
    graphs = make_graphs(one=random_scan(1), two=random_scan(2, size=30))
    environment = LowLevelEnvironment(graphs)
    seen = environment.reset(tasks_in(graphs, 12))
    for _ in range(400):
        if not seen.teacher_step.any():
            break
        seen = environment.step_raw(seen.teacher_step)
    assert (seen.distance == 0).all()


def test_an_agent_that_ended_is_not_logged():
    environment, _ = square()
    environment.step(np.array([RIGHT]))
    environment.step(np.array([-1]))
    environment.step(np.array([END]))
    assert len(environment.trajectories()[0]) == 2


def test_forward_with_nothing_ahead_is_refused():
    environment, seen = square(np.pi)
    assert not seen.can_move[0]
    with pytest.raises(SimulatorError, match="out of range"):
        environment.step(np.array([FORWARD]))
