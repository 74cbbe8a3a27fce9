"""Whole splits are walked once, by one process or several, and mixtures are tuned by success."""

from prevalent.agents.rollout import Episodes
from prevalent.agents.search import Mixture, SearchPath, SearchResult, choose_walks, tune_mixture
from prevalent.data.instructions import Instruction
from tests.factories import make_graphs
from tests.small_agents import TOKENIZER


def path_to(end, listener, speaker):
    return SearchPath(
        [("a", 0.0, 0.0), (end, 0.0, 0.0)], [0, -1], listener, [2, 2], [0, 0], [0, 0], speaker
    )


def test_the_mixture_with_the_most_successes_is_found():
    graphs = make_graphs()
    episodes = Episodes.encode(
        [Instruction("1_0", 1, "house", ("a", "b", "c"), 0.0, "walk past")], TOKENIZER
    )
    wrong, right = path_to("a", [-0.1, -0.1], [-5.0]), path_to("c", [-1.0, -1.0], [-1.0])
    found = [SearchResult("1_0", ["a"], [wrong, right])]
    listener_alone = choose_walks(found, Mixture(alpha=0.0))
    assert listener_alone["1_0"]["trajectory"][-1][0] == "a"
    mixture = tune_mixture(found, episodes, graphs)
    assert 0 < mixture.alpha <= 1
    assert choose_walks(found, mixture)["1_0"]["trajectory"][-1][0] == "c"


def test_a_search_without_a_path_submits_its_walk():
    walks = choose_walks([SearchResult("1_0", ["a", "b", "a"], [])], Mixture())
    assert [step[0] for step in walks["1_0"]["trajectory"]] == ["a", "b", "a"]
