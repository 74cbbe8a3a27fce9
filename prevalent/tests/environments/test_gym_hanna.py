"""HANNA as a Gymnasium environment: searches, requests, routes."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.error import ResetNeeded  # noqa: E402
from gymnasium.utils.env_checker import check_env  # noqa: E402

from prevalent.data.features import synthetic_features  # noqa: E402
from prevalent.environments.gym import Rules, TextObservation  # noqa: E402
from prevalent.environments.gym_hanna import HannaData, HannaEnv, open_hanna  # noqa: E402
from prevalent.environments.hanna import Anna  # noqa: E402
from prevalent.simulator import SimulatorError  # noqa: E402
from tests.factories import make_graphs, random_scan  # noqa: E402
from tests.small_hanna import TOKENIZER, make_routes, make_tasks  # noqa: E402

WORDS_OF_A_ROUTE = "walk past the door"


def world(routes=30, tasks=6):
    """Searches in two random scans, with routes at many places and features."""
    graphs = make_graphs(one=random_scan(1), two=random_scan(2))
    names = [graphs.long_id(n) for n in range(len(graphs.viewpoints))]
    anna = Anna(graphs, make_routes(graphs, per_scan=routes))
    features = synthetic_features(names, 6)
    return HannaData(graphs, make_tasks(graphs, tasks), anna, "train_seen", TOKENIZER, features)


def begin(env, requestable):
    """Start the first search in which help can, or cannot, be asked for at the start."""
    for number in range(len(env._data.tasks)):
        seen, info = env.reset(seed=0, options={"episode": number})
        if info["requestable"] == requestable:
            return seen, info
    raise AssertionError("no such search")


@pytest.mark.parametrize("rules", [None, Rules(goal_direction=True), Rules(panorama=False)])
def test_gymnasiums_own_checker_finds_nothing(rules):
    env = HannaEnv(world(), rules, render_mode="ansi")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env, skip_render_check=True)


def test_the_teacher_finds_every_object_with_help_and_without():
    env = HannaEnv(world())
    for number in range(6):
        for asks in (False, True):
            _, info = env.reset(options={"episode": number})
            before, earned, over = info["distance"], 0.0, False
            while not over:
                action = env.ask if asks and info["requestable"] else info["teacher"]
                asks = asks and action != env.ask
                seen, reward, over, truncated, info = env.step(action)
                assert env.observation_space.contains(seen)
                assert not truncated
                earned += reward
            assert (info["distance"], info["success"]) == (0, True)
            assert earned == pytest.approx(before + env._world.rules.stop_reward)


def test_who_asks_follows_the_words_of_a_route_until_it_is_left():
    env = HannaEnv(world(), render_mode="ansi")
    seen, info = begin(env, requestable=True)
    assert (seen["text"], seen["on_route"]) == ("find the bed", 0)
    assert not seen["goal_panorama"].any()
    assert seen["action_mask"][env.ask] == 1
    assert f"{env.ask}: ask for help" in env.render()
    assert "0: stop here" in env.render()
    seen, _, over, _, info = env.step(env.ask)
    assert (seen["text"], seen["on_route"], over) == (WORDS_OF_A_ROUTE, 1, False)
    np.testing.assert_array_equal(seen["tokens"], TOKENIZER.encode(WORDS_OF_A_ROUTE))
    assert "0: leave the route" in env.render()
    depart = env._seen.targets[0][0]
    row = env._data.features.rows[env._data.graphs.long_id(depart)]
    np.testing.assert_allclose(seen["goal_panorama"], env._data.features.array[row], atol=1e-6)
    while info["teacher"]:
        seen, *_, info = env.step(info["teacher"])
    assert info["node"] == depart
    seen, reward, over, _, info = env.step(0)  # leaves the route and goes on searching
    assert (seen["text"], seen["on_route"], reward, over) == ("find the bed", 0, 0.0, False)


def test_help_where_there_is_none_changes_nothing_but_the_time():
    env = HannaEnv(world(routes=0), Rules(max_steps=2))
    seen, info = begin(env, requestable=False)
    assert seen["action_mask"][env.ask] == 0
    again, reward, over, truncated, after = env.step(env.ask)
    assert (reward, over, truncated) == (0.0, False, False)
    assert after == info
    np.testing.assert_array_equal(again["panorama"], seen["panorama"])
    assert env.step(env.ask)[3]
    with pytest.raises(ResetNeeded, match="the episode has ended"):
        env.step(0)


def test_stopping_far_from_every_object_is_a_failure():
    env = HannaEnv(world(), Rules(success_radius=0.5))
    env.reset(options={"episode": 0})
    _, reward, over, _, info = env.step(0)
    assert (reward, over, info["success"]) == (-2.0, True, False)


def test_an_action_outside_the_space_is_refused_and_nothing_moves():
    env = HannaEnv(world())
    _, info = env.reset(seed=1)
    with pytest.raises(SimulatorError, match=f"must be an integer from 0 .stop. to {env.ask}"):
        env.step(env.ask + 1)
    assert len(env.trajectory()) == 1
    assert env._world.info(env._agents)["node"][0] == info["node"]


def test_the_registered_name_makes_one_and_several(toy_world):
    options = {"data_dir": toy_world, "features": "features.npy"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = TextObservation(gymnasium.make("prevalent/HANNA-v0", **options))
        words, info = env.reset(seed=0)
        assert words.startswith("Instruction: find ")
        env.step(info["teacher"])
        env.step(info["teacher"])
        many = gymnasium.make_vec("prevalent/HANNA-v0", 3, "vector_entry_point", **options)
    assert len({id(one._data) for one in many.envs}) == 1
    seen, info = many.reset(seed=0)
    assert seen["panorama"].shape == seen["goal_panorama"].shape == (3, 36, 32)
    _, reward, *_ = many.step(info["teacher"])
    assert (reward >= -2).all()


def test_a_split_whose_goals_are_hidden_or_that_is_unknown_is_refused(toy_world, tmp_path):
    for name in ("connectivity", "hanna"):
        (tmp_path / name).mkdir()
        for file in (toy_world / name).iterdir():
            (tmp_path / name / file.name).symlink_to(file)
    file = tmp_path / "hanna" / "hanna_val_seen.json"
    items = json.loads(file.read_text())
    file.unlink()
    file.write_text("[]")
    with pytest.raises(ValueError, match="the split 'val_seen' is empty; give another"):
        open_hanna(tmp_path, "val_seen")
    for item in items:
        item["paths"] = [[]]
    file.write_text(json.dumps(items))
    with pytest.raises(ValueError, match=r"has no path to a goal|no goals to score"):
        open_hanna(tmp_path, "val_seen")
    with pytest.raises(ValueError, match="split 'dev' is none of"):
        open_hanna(tmp_path, "dev")
