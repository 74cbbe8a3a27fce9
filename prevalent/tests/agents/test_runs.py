"""A run's agent is opened from its folder and walks a split greedily, by search or with limits."""

from itertools import pairwise

import pytest

from prevalent.tasks.r2r import Walking, open_agent, train_r2r, walk_agent
from tests.toy_runs import follower_run


@pytest.fixture(scope="module")
def agent(toy_world, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("run")
    train_r2r(follower_run(toy_world, run_dir, max_steps=1, eval_every=1))
    return open_agent(run_dir, "val_unseen@2", snapshot="last", device="cpu")


def test_an_agent_comes_with_its_options_and_episodes(agent):
    assert agent.follower.config == agent.config.model
    assert len(agent.episodes) == len(agent.world.splits["val_unseen@2"])


def test_a_greedy_walk_gives_one_result_an_instruction(agent):
    results, mixture = walk_agent(agent, Walking(batch_size=3))
    assert list(results) == [one.id for one in agent.episodes.instructions]
    assert mixture is None


def test_places_are_not_visited_twice_where_that_is_forbidden(agent):
    results, _ = walk_agent(agent, Walking(forbid_revisits=True))
    for result in results.values():
        places = [place for place, _, _ in result["trajectory"]]
        moves = [b for a, b in pairwise(places) if a != b]
        assert len({places[0], *moves}) == 1 + len(moves)


def test_a_search_ends_at_each_instruction_too(agent):
    results, mixture = walk_agent(agent, Walking(beam=2))
    assert sorted(results) == sorted(one.id for one in agent.episodes.instructions)
    assert mixture is None  # nothing to mix without a speaker


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speaker": "runs/speaker"}, "add --beam 20 or drop it"),
        ({"beam": 2, "tune": True}, "add --speaker RUN"),
    ],
    ids=["speaker", "tune"],
)
def test_options_that_need_each_other_are_named(agent, changes, message):
    with pytest.raises(ValueError, match=message):
        walk_agent(agent, Walking()._replace(**changes))


def test_another_data_folder_takes_the_place_of_the_runs(agent, tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        open_agent(
            agent.config.run_dir, "val_unseen", snapshot="last", data_dir=tmp_path, device="cpu"
        )
