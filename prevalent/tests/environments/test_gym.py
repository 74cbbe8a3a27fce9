"""The Gymnasium environments."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.error import ResetNeeded  # noqa: E402
from gymnasium.utils.env_checker import check_env  # noqa: E402

from prevalent.data.features import synthetic_features  # noqa: E402
from prevalent.data.tokenizers import WordTokenizer, build_vocabulary  # noqa: E402
from prevalent.environments.gym import (  # noqa: E402
    NavigationData,
    NavigationEnv,
    NavigationVectorEnv,
    Rules,
    TextObservation,
    open_ndh,
    open_r2r,
    open_toy,
)
from prevalent.environments.navigation import Episode  # noqa: E402
from prevalent.environments.scene import draw_view  # noqa: E402
from prevalent.simulator import Camera, SimulatorError  # noqa: E402
from prevalent.simulator.rendering import views_from_skybox  # noqa: E402
from tests.factories import make_graphs, make_scan, random_scan, tasks_in  # noqa: E402

GOAL = Rules(goal_direction=True)


def world(count=9):
    """Episodes with an instruction of their own each, and features."""
    graphs = make_graphs(one=random_scan(1), two=random_scan(2, size=30))
    tasks = tasks_in(graphs, count)
    texts = [f"Walk to room {i} – the café." for i in range(count)]
    tokenizer = WordTokenizer(build_vocabulary(texts, min_count=1), max_length=12)
    names = [graphs.long_id(n) for n in range(len(graphs.viewpoints))]
    return NavigationData(
        graphs,
        [
            Episode(t.scan, t.path, t.heading, t.id, text)
            for t, text in zip(tasks, texts, strict=True)
        ],
        np.stack([tokenizer.encode(text) for text in texts]),
        len(tokenizer),
        synthetic_features(names, 6),
    )


def square(rules=None, **settings):
    graphs = make_graphs()
    episodes = [Episode("house", ("a", "b"), 0.0, "1_0", "go on")]
    return NavigationEnv(NavigationData(graphs, episodes), rules, **settings)


@pytest.mark.parametrize("rules", [Rules(), GOAL, Rules(panorama=False)])
@pytest.mark.parametrize("render_mode", [None, "ansi", "rgb_array"])
def test_gymnasiums_own_checker_finds_nothing(rules, render_mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(NavigationEnv(world(), rules, render_mode=render_mode), skip_render_check=True)
        check_env(NavigationEnv(NavigationData(world().graphs), GOAL), skip_render_check=True)


def test_a_seed_gives_the_same_episodes_again():
    def walk(seed):
        env = NavigationEnv(world())
        first, _ = env.reset(seed=seed)
        second, _ = env.reset()
        return first["text"], second["text"]

    assert walk(3) == walk(3)
    assert len({walk(seed) for seed in range(6)}) > 1


def test_episodes_with_other_goals_look_different():
    env = NavigationEnv(world(), GOAL)
    seen = [env.reset(options={"episode": i})[0] for i in range(9)]
    for name in ("text", "tokens", "goal"):
        assert len({str(np.asarray(one[name]).tolist()) for one in seen}) == 9


def test_what_is_seen_are_the_candidates_their_features_and_the_goal():
    data = world()
    env = NavigationEnv(data, GOAL)
    seen, info = env.reset(options={"episode": 4})
    graphs, node = data.graphs, info["node"]
    assert graphs.viewpoints[node] == info["viewpoint"] == data.episodes[4].path[0]
    assert seen["text"] == data.episodes[4].text
    images = data.features.view(graphs.long_id(node))
    np.testing.assert_array_equal(seen["panorama"], images)
    heading = np.pi / 6 * (seen["view"] % 12)
    for j in range(1, int(seen["action_mask"].sum())):
        angle = np.arctan2(seen["candidates"][j, 0], seen["candidates"][j, 1]) + heading
        env.reset(options={"episode": 4})
        *_, info = env.step(j)
        offset = graphs.positions[info["node"]] - graphs.positions[node]
        bearing = np.arctan2(offset[0], offset[1])
        assert np.cos(angle - bearing) == pytest.approx(1, abs=1e-5)
        assert any((images == seen["candidate_features"][j]).all(axis=1))
    assert not seen["candidate_features"][int(seen["action_mask"].sum()) :].any()
    offset = graphs.positions[graphs.node(*goal_of(data, 4))] - graphs.positions[node]
    turn = np.arctan2(seen["goal"][0], seen["goal"][1])
    assert np.cos(turn + heading - np.arctan2(offset[0], offset[1])) == pytest.approx(1, abs=1e-5)
    assert seen["goal"][2:] == pytest.approx([np.hypot(*offset[:2]), offset[2]], abs=1e-5)


def goal_of(data, i):
    return data.episodes[i].scan, data.episodes[i].path[-1]


def test_going_to_the_goal_and_stopping_there_is_paid():
    env = square()
    observation, info = env.reset()
    assert (info["distance"], info["success"], info["teacher"]) == (2.0, True, 1)
    forward = int(observation["candidates"][1:, 1].argmax()) + 1  # cosine of the turn
    _, reward, terminated, truncated, info = env.step(forward)
    assert (reward, terminated, truncated, info["distance"]) == (2.0, False, False, 0.0)
    assert info["teacher"] == 0
    _, reward, terminated, *_ = env.step(0)
    assert (reward, terminated) == (2.0, True)
    assert [pose[0] for pose in env.trajectory()] == ["a", "b", "b"]
    far = square(Rules(success_radius=1.0))
    far.reset()
    assert far.step(0)[1] == -2.0


def test_the_teacher_is_always_right():
    env = NavigationEnv(world())
    for i in range(9):
        _, info = env.reset(options={"episode": i})
        while info["teacher"]:
            *_, info = env.step(info["teacher"])
        assert info["distance"] == 0


def test_an_action_without_a_candidate_stays():
    env = NavigationEnv(world())
    for i in range(9):
        observation, info = env.reset(options={"episode": i})
        if not observation["action_mask"].all():
            break
    _, reward, *_, after = env.step(int(observation["action_mask"].argmin()))
    assert (after["node"], reward) == (info["node"], 0)


@pytest.mark.parametrize("action", [99, 1.7, -1, True, "left", None, np.nan, [1, 1]])
def test_an_action_outside_the_space_is_refused_and_nothing_moves(action):
    env = square()
    env.reset()
    with pytest.raises(SimulatorError, match=r"must be an integer from 0 .stop. to 2"):
        env.step(action)
    assert len(env.trajectory()) == 1
    env.step(np.int64(1))


def test_a_step_outside_an_episode_is_refused():
    env = square(Rules(max_steps=1), render_mode="ansi")
    for call in (lambda: env.step(1), env.render):
        with pytest.raises(ResetNeeded, match=r"call reset\(\) before"):
            call()
    env.reset()
    assert env.step(1)[3]
    with pytest.raises(ResetNeeded, match="the episode has ended"):
        env.step(1)


def test_episodes_that_cannot_be_walked_are_refused():
    scan = make_scan({"a": (0, 0, 0), "b": (0, 1, 0), "alone": (5, 5, 0)}, [("a", "b")])
    graphs = make_graphs(house=scan)
    with pytest.raises(SimulatorError, match="'alone' cannot be reached"):
        NavigationEnv(NavigationData(graphs, [Episode("house", ("a", "alone"), id="7")]))
    with pytest.raises(ValueError, match="give episodes or goal_direction=True"):
        NavigationEnv(NavigationData(graphs))
    with pytest.raises(SimulatorError, match="there is no episode 9; there are 1"):
        square().reset(options={"episode": 9})
    with pytest.raises(ValueError, match="render_mode must be"):
        square(render_mode="human")
    with pytest.raises(ValueError, match="max_steps must be at least 1"):
        Rules(max_steps=0)
    data = world()
    few = synthetic_features([data.graphs.long_id(0)], 6)
    with pytest.raises(ValueError, match="has no viewpoint"):
        NavigationEnv(NavigationData(data.graphs, data.episodes, features=few))


def test_words_name_the_instruction_the_direction_and_the_choices():
    env = TextObservation(
        square(), caption=lambda scan, viewpoint, view: f"{viewpoint} view {view}"
    )
    words, _ = env.reset()
    assert words.splitlines() == [
        "Instruction: go on",
        "Step 0. You face north. Your choices:",
        "0: stop here",
        "1: go 2.0 m, straight ahead: a view 12",
        "2: go 2.0 m, 90 degrees to your right: a view 15",
    ]
    words, *_ = env.step(1)
    assert "Step 1. You face north" in words
    assert "behind you" in words
    assert env.observation_space.contains(words)


def test_the_map_shows_agent_goal_and_walk():
    env = square(render_mode="rgb_array")
    env.reset()
    before = env.render()
    assert (before.shape, before.dtype) == ((480, 480, 3), np.uint8)
    reds = np.argwhere((before == (214, 39, 40)).all(axis=2)).mean(axis=0)
    greens = np.argwhere((before == (44, 160, 44)).all(axis=2)).mean(axis=0)
    assert greens[0] < reds[0] - 300  # b lies north of a
    env.step(2)
    blue = (31, 119, 180)
    assert not (before == blue).all(axis=2).any()
    assert (env.render() == blue).all(axis=2).any()


def test_the_picture_is_the_view_of_the_skybox(tmp_path):
    faces = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3)).astype(np.uint8)
    folder = tmp_path / "house" / "matterport_skybox_images"
    folder.mkdir(parents=True)
    strip = Image.fromarray(np.concatenate(list(faces), axis=1))
    strip.save(folder / "a_skybox_small.jpg", format="PNG")
    env = square(render_mode="view", skyboxes=tmp_path)
    observation, _ = env.reset()
    assert env.render().shape == (480, 640, 3)
    small = Camera(64, 48)
    picture = draw_view(env.scene(), tmp_path, small)
    np.testing.assert_array_equal(picture, views_from_skybox(faces, small)[observation["view"]])
    env.step(1)
    with pytest.raises(SimulatorError, match=r"b_skybox0_sami.jpg' does not exist"):
        env.render()
    with pytest.raises(ValueError, match="render_mode 'view' needs skyboxes"):
        square(render_mode="view")


def test_the_vector_form_agrees_with_its_spaces_and_repeats_with_a_seed():
    env = NavigationVectorEnv(world(), 5, Rules(max_steps=6, goal_direction=True))
    rng = np.random.default_rng(0)
    actions = [rng.integers(env.single_action_space.n, size=5) for _ in range(40)]

    def run():
        rows = []
        observation, _ = env.reset(seed=4)
        for action in actions:
            assert env.observation_space.contains(observation)
            observation, reward, terminated, truncated, info = env.step(action)
            rows.append(np.concatenate([info["node"], reward, terminated, truncated]))
            assert reward.shape == terminated.shape == info["distance"].shape == (5,)
        return np.array(rows)

    np.testing.assert_array_equal(run(), run())


def test_the_vector_form_steps_like_single_ones():
    data = world()
    env = NavigationVectorEnv(data, 4, GOAL)
    env.reset(options={"episode": [3, 1, 4, 1]})
    singles = [NavigationEnv(data, GOAL) for _ in range(4)]
    for single, episode in zip(singles, [3, 1, 4, 1], strict=True):
        single.reset(options={"episode": episode})
    for action in (1, 2, 1, 3):
        observation, reward, *_, info = env.step(np.full(4, action))
        for i, single in enumerate(singles):
            alone, earned, *_, told = single.step(action)
            assert earned == reward[i]
            assert {name: told[name] for name in info} == {n: v[i] for n, v in info.items()}
            for key, value in alone.items():
                np.testing.assert_array_equal(value, observation[key][i])


def test_an_ended_episode_starts_anew_with_the_next_step():
    env = NavigationVectorEnv(world(), 3)
    env.reset(seed=1)
    *_, terminated, _, _ = env.step(np.array([0, 1, 1]))
    assert terminated.tolist() == [True, False, False]
    _, reward, terminated, truncated, info = env.step(np.array([1, 1, 1]))
    assert (reward[0], terminated[0], truncated[0]) == (0, False, False)
    start = env._world.starts[info["episode"][0]]
    assert info["node"][0] == start[0]


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 99, 0], "action 99 is not possible"),
        ([0, -1, 0], "action -1 is not possible"),
        ([0, 1.7, 0], "actions must be 3 integers, got float64"),
        ([0, 1], "actions must be 3 integers"),
    ],
)
def test_bad_actions_of_the_vector_form_are_refused(actions, message):
    env = NavigationVectorEnv(world(), 3)
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before step"):
        env.step(np.zeros(3, np.int64))
    _, before = env.reset(seed=0)
    with pytest.raises(SimulatorError, match=message):
        env.step(np.array(actions))
    np.testing.assert_array_equal(env._world.info(env._agents)["node"], before["node"])
    with pytest.raises(SimulatorError, match=r"there are 9: .* takes 3 whole numbers below"):
        env.reset(options={"episode": [0, 1, 9]})


def test_registered_names_make_both_forms(toy_world):
    for name, options in (
        ("R2R", {"features": "features.npy"}),
        ("NDH", {"vocabulary": "r2r/train_vocab.txt"}),
        ("Goal", {}),
        ("Toy", {}),
    ):
        options |= {"data_dir": toy_world}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            env = gymnasium.make(f"prevalent/{name}-v0", render_mode="ansi", **options)
            check_env(env.unwrapped, skip_render_check=True)
            env.reset(seed=0)
            assert "Your choices" in env.render()
            many = gymnasium.make_vec(
                f"prevalent/{name}-v0",
                num_envs=6,
                vectorization_mode="vector_entry_point",
                **options,
            )
        observation, _ = many.reset(seed=0)
        assert many.observation_space.contains(observation)
        assert ("goal" in observation) == (name == "Goal")
        assert ("panorama" in observation) == (name in ("R2R", "Toy"))
    texts = [
        episode.text for episode in open_ndh(toy_world, vocabulary="r2r/train_vocab.txt").episodes
    ]
    assert all("<TAR>" in text for text in texts)


def test_the_official_episodes_are_walked_by_their_teacher(data_dir):
    for name, split, count in (("R2R", "val_unseen", 2349), ("NDH", "val_seen", 382)):
        env = gymnasium.make_vec(
            f"prevalent/{name}-v0",
            num_envs=64,
            vectorization_mode="vector_entry_point",
            data_dir=data_dir,
            split=split,
        )
        assert len(env._world.texts) == count
        _, info = env.reset(seed=0)
        over, success = np.zeros(64, dtype=bool), np.zeros(64, dtype=bool)
        while not over.all():
            *_, terminated, truncated, info = env.step(info["teacher"])
            success |= ~over & terminated & info["success"]
            over |= terminated | truncated
        assert success.all()
    with pytest.raises(ValueError, match="split 'test' hides its goals"):
        open_r2r(data_dir, "test")


def test_environments_of_one_folder_share_its_graphs(toy_world):
    assert open_r2r(toy_world).graphs is open_r2r(toy_world).graphs


def test_a_toy_world_is_written_once(tmp_path):
    first = open_toy(tmp_path, train_houses=1, unseen_houses=1)
    written = (tmp_path / "features.npy").stat().st_mtime_ns
    assert len(open_toy(tmp_path, "val_unseen").episodes) > 0
    assert (tmp_path / "features.npy").stat().st_mtime_ns == written
    assert first.features.width == 32


def test_a_split_whose_goals_are_hidden_is_refused(toy_world, tmp_path):
    for name in ("connectivity", "r2r"):
        (tmp_path / name).symlink_to(toy_world / name)
    items = json.loads((toy_world / "r2r" / "R2R_train.json").read_text())
    for item in items:
        item["path"] = item["path"][:1]
    hidden = tmp_path / "hidden.json"
    hidden.write_text(json.dumps(items))
    with pytest.raises(ValueError, match="hides its goals"):
        open_r2r(tmp_path, str(hidden))


def learn(*words):
    """Success rates that the example prints: at random, then after every few updates."""
    root = Path(__file__).parents[2]
    command = [sys.executable, str(root / "examples" / "learn_toy.py"), *words]
    env = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return [float(rate) for rate in re.findall(r"success (\d\.\d+)", done.stdout)]


def test_the_example_runs():
    assert len(learn("--updates", "2", "--houses", "1", "1")) == 2


@pytest.mark.slow
def test_the_example_reaches_the_success_that_is_stated():
    at_random, *_, last = learn()
    assert at_random < 0.1
    assert last > 0.75
