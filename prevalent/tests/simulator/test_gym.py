"""The Gymnasium views."""

import warnings

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402

from prevalent.simulator.gym import NavigationEnv, NavigationVectorEnv, Start  # noqa: E402
from tests.factories import make_graphs, random_scan  # noqa: E402


def world():
    return make_graphs(one=random_scan(1), two=random_scan(2, size=30))


def test_gymnasiums_own_checker_finds_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(NavigationEnv(world()), skip_render_check=True)


def test_going_to_the_goal_earns_the_distance():
    env = NavigationEnv(make_graphs())
    observation, info = env.reset(options={"start": Start("house", "a", 0.0, "b")})
    assert info == {"distance": 2.0, "success": True}
    assert observation["action_mask"].tolist() == [1, 1, 1]
    forward = int(observation["candidates"][1:, 1].argmax()) + 1  # cosine of the turn
    _, reward, terminated, truncated, info = env.step(forward)
    assert (reward, terminated, truncated, info["distance"]) == (2.0, False, False, 0.0)
    assert env.step(0)[2]


def test_an_action_without_a_candidate_stays():
    env = NavigationEnv(world())
    observation, _ = env.reset(seed=3)
    blocked = int(observation["action_mask"].argmin())
    if observation["action_mask"].all():
        pytest.skip("this viewpoint has the largest degree")
    after = env.step(blocked)
    assert after[0]["node"] == observation["node"]
    assert after[1] == 0


def test_episodes_are_truncated_and_listed_starts_are_drawn():
    graphs = make_graphs()
    env = NavigationEnv(graphs, [Start("house", "c", 0.0, "a")], max_steps=2)
    observation, _ = env.reset(seed=0)
    assert graphs.viewpoints[observation["node"]] == "c"
    assert not env.step(1)[3]
    assert env.step(1)[3]


def test_the_vector_view_agrees_with_its_spaces_and_repeats_with_a_seed():
    env = NavigationVectorEnv(world(), 5, max_steps=6)
    rng = np.random.default_rng(0)
    actions = [rng.integers(env.single_action_space.n, size=5) for _ in range(40)]

    def run():
        rows = []
        observation, _ = env.reset(seed=4)
        for action in actions:
            assert env.observation_space.contains(observation)
            observation, reward, terminated, truncated, info = env.step(action)
            rows.append(np.concatenate([observation["node"], reward, terminated, truncated]))
            assert reward.shape == terminated.shape == info["distance"].shape == (5,)
        return np.array(rows)

    np.testing.assert_array_equal(run(), run())


def test_the_vector_view_steps_like_single_ones():
    graphs = world()
    names = graphs.viewpoints
    env = NavigationVectorEnv(graphs, 4)
    observation, _ = env.reset(seed=0)
    singles = []
    for i in range(4):
        start = Start(
            graphs.scan_of(observation["node"][i]),
            names[observation["node"][i]],
            (observation["view"][i] % 12) * np.pi / 6,
            names[env._goal[i]],
        )
        singles.append(NavigationEnv(graphs))
        singles[i].reset(options={"start": start})
    for action in (1, 2, 1, 3):
        observation, reward, *_ = env.step(np.full(4, action))
        for i, single in enumerate(singles):
            alone, earned, *_ = single.step(action)
            assert earned == reward[i]
            for key, value in alone.items():
                np.testing.assert_array_equal(value, observation[key][i])


def test_an_ended_episode_starts_anew_with_the_next_step():
    env = NavigationVectorEnv(world(), 3)
    env.reset(seed=1)
    *_, terminated, truncated, _ = env.step(np.array([0, 1, 1]))
    assert terminated.tolist() == [True, False, False]
    _, reward, terminated, truncated, _ = env.step(np.array([1, 1, 1]))
    assert (reward[0], terminated[0], truncated[0]) == (0, False, False)
