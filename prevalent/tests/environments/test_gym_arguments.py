"""What a Gymnasium environment is made of, and what its episodes are asked for, is checked."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("gymnasium")

from prevalent.environments.gym import (
    NavigationData,
    NavigationEnv,
    NavigationVectorEnv,
    Rules,
    make,
    make_vector,
)
from prevalent.environments.navigation import Episode
from prevalent.simulator import SimulatorError
from tests.factories import make_graphs, make_scan


def data(path=("a", "b", "c"), heading=0.0, **options):
    graphs = make_graphs(house=make_scan())
    return NavigationData(graphs, [Episode("house", path, heading, "1", "go")], **options)


@pytest.mark.parametrize(
    "rules",
    [
        {"max_steps": 1.5},
        {"max_steps": math.nan},
        {"max_steps": "3"},
        {"max_steps": True},
        {"success_radius": math.nan},
        {"success_radius": math.inf},
        {"success_radius": "3"},
        {"stop_reward": math.nan},
        {"stop_reward": None},
        {"goal_direction": "yes"},
        {"panorama": 1},
    ],
)
def test_rules_that_are_none_are_refused(rules):
    with pytest.raises(ValueError, match=next(iter(rules))):
        Rules(**rules)


@pytest.mark.parametrize(
    ("tokens", "vocab_size"),
    [
        (np.zeros((3, 4), int), 5),
        (np.zeros(4, int), 5),
        (np.zeros((1, 4)), 5),
        (np.full((1, 4), 9), 5),
        (np.full((1, 4), -1), 5),
        (np.zeros((1, 4), int), 0),
        ([[1], [1, 2]], 5),
    ],
)
def test_tokens_are_ids_of_the_vocabulary_for_every_episode(tokens, vocab_size):
    with pytest.raises(ValueError, match="tokens must be"):
        NavigationEnv(data(tokens=tokens, vocab_size=vocab_size))


def test_episodes_and_parts_that_are_none_are_refused():
    for bad in ({"heading": math.nan}, {"heading": None}, {"path": ()}, {"path": "ab"}):
        with pytest.raises(SimulatorError, match=next(iter(bad))):
            NavigationEnv(data(**bad))
    with pytest.raises(ValueError, match="takes NavigationData and Rules, got NavigationData and"):
        NavigationEnv(data(), "strict")
    with pytest.raises(ValueError, match="caption must be a function"):
        NavigationEnv(data(), caption=3)
    for count in (0, 1.5, "2", True):
        with pytest.raises(ValueError, match="num_envs must be"):
            NavigationVectorEnv(data(), count)
    for build in (lambda: make("r2r"), lambda: make_vector("r2r", 2)):
        with pytest.raises(ValueError, match="no kind 'r2r'; choose one of R2R, NDH"):
            build()


def test_an_option_that_is_none_is_refused_and_the_episode_goes_on():
    env = NavigationEnv(data())
    env.reset(seed=0)
    env.step(1)
    walk = env.trajectory()
    for options in ({"episod": 0}, {"episode": True}, {"episode": math.nan}, {"episode": 9}, [0]):
        with pytest.raises(SimulatorError, match="episode"):
            env.reset(seed=3, options=options)
    assert env.trajectory() == walk
    several = NavigationVectorEnv(data(), 2)
    several.reset()
    for options in ({"episod": 0}, {"episode": [True, False]}, {"episode": [[0], [0, 1]]}):
        with pytest.raises(SimulatorError, match="episode"):
            several.reset(options=options)
    for actions in ([[0], [0, 1]], None, ["a", "b"], [True, False], [10**30, 1]):
        with pytest.raises(SimulatorError, match="action"):
            several.step(actions)
