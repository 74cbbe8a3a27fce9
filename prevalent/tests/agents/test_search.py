"""State-factored search against recorded results, and what must hold for any search."""

from __future__ import annotations

from itertools import pairwise

import networkx as nx
import numpy as np
import pytest

from prevalent.agents.rollout import Episodes
from prevalent.agents.search import (
    KnownMap,
    Mixture,
    SearchPath,
    SearchResult,
    choose,
    choose_walks,
    path_score,
    rescore,
    search,
    tune_mixture,
)
from prevalent.data.instructions import Instruction
from tests.factories import make_graphs, random_scan
from tests.recorded_agents import Recorded, accumulate, rollout_cases
from tests.small_agents import TOKENIZER, make_batch, make_follower, make_speaker

SCORE = 1e-4  # absolute, nats; after three training steps of ours


@pytest.fixture(scope="module")
def recordings(golden, real_graphs, data_dir):
    cases = [Recorded.load(path, real_graphs, data_dir) for path in rollout_cases(golden)]
    cases = [recorded for recorded in cases if "beam" in recorded.case]
    if not cases:
        pytest.skip("no recorded search")
    return cases


def key_of(trajectory):
    return tuple(pose[0] for pose in trajectory)


@pytest.mark.golden
def test_recorded_searches_find_the_same_paths_walks_and_scores(recordings):
    for recorded in recordings:
        case, speaker = recorded.case["beam"], recorded.speaker()
        batch = recorded.batch([item["instr_id"] for item in case])
        follower = accumulate(recorded, recorded.trained())  # as it was recorded
        results = search(follower, batch, int(recorded.flags.candidates))
        tokens = np.stack([recorded.words.encode(task.text) for task in batch.tasks])
        rescore(results, speaker, tokens)
        for ours, theirs in zip(results, case, strict=True):
            assert ours.id == theirs["instr_id"]
            assert ours.walk == theirs["dijk_path"]
            paths = {key_of(path.trajectory): path for path in ours.paths}
            assert paths.keys() == {key_of(path["trajectory"]) for path in theirs["paths"]}
            for path in theirs["paths"]:
                check_path(paths[key_of(path["trajectory"])], path)


def check_path(ours, theirs):
    assert ours.actions == theirs["action"]
    assert ours.num_choices == theirs["listener_actions"]
    poses = [pose[1:] for pose in theirs["trajectory"]]
    np.testing.assert_allclose([p[1:] for p in ours.trajectory], poses, rtol=0, atol=1e-6)
    assert ours.listener_scores == pytest.approx(theirs["listener_scores"], abs=SCORE)
    assert ours.speaker_scores == pytest.approx(theirs["speaker_scores"], abs=SCORE)


@pytest.mark.parametrize("encoder", ["lstm", "dic", "bert"])
def test_the_best_path_is_never_worse_than_the_greedy_walk(encoder):
    follower = make_follower(encoder)
    batch = make_batch(follower.environment, count=4)
    greedy = follower.train(False).rollout(batch, "argmax")
    results = search(follower, batch, candidates=50)
    for i, result in enumerate(results):
        best = max(sum(path.listener_scores) for path in result.paths)
        if greedy.ended[i]:
            walked = (greedy.log_probs * greedy.masks)[:, i].sum().item()
            assert best >= walked - 1e-4


def test_the_submitted_walk_is_connected_and_ends_with_the_best_path():
    follower = make_follower()
    batch = make_batch(follower.environment, count=4)
    speaker = make_speaker(follower.environment, follower.features)
    results = search(follower, batch, candidates=3)
    rescore(results, speaker, batch.tokens)
    graphs = follower.environment.graphs
    for task, result in zip(batch.tasks, results, strict=True):
        walked = [pose[0] for pose in choose(result, alpha=0.3)]
        assert walked[0] == task.path[0] == result.walk[-1]
        nodes = [graphs.node(task.scan, name) for name in walked]
        assert all(a == b or graphs.adjacent(a, b) for a, b in pairwise(nodes))
        best = max(result.paths, key=lambda path: path_score(path, 0.3))
        assert walked[-1] == best.trajectory[-1][0]


def test_path_scores_weigh_speaker_and_listener():
    follower = make_follower()
    result = search(follower, make_batch(follower.environment, count=1), candidates=1)[0]
    path = result.paths[0]
    path.listener_scores, path.speaker_scores = [-1.0, -3.0], [-2.0, -4.0, -6.0]
    assert path_score(path, 0.25) == pytest.approx(0.25 * -4 + 0.75 * -2)
    assert path_score(path, 0.5, mean_speaker=False, mean_listener=False) == pytest.approx(-8)


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


def test_known_ways_are_shortest_through_visited_places():
    graphs = make_graphs(one=random_scan(5, size=20))
    known, seen = KnownMap(graphs), nx.Graph()
    rng = np.random.default_rng(0)
    node, visited = 0, []
    for _ in range(15):
        targets = graphs.neighbors[node][: graphs.degree[node]].astype(np.int64)
        known.add(node, targets)
        visited.append(node)
        for target in targets:
            seen.add_edge(node, int(target), weight=float(graphs.distance(node, target)))
        for other in set(visited):
            ours = [node, *known.path(node, other)]
            allowed = seen.subgraph(set(visited))
            wanted = nx.shortest_path(allowed, node, other, weight="weight")
            assert (
                nx.path_weight(seen, ours, "weight")
                <= nx.path_weight(seen, wanted, "weight") + 1e-9
            )
            assert ours[-1] == other
        node = int(rng.choice(targets))


def test_nobody_walks_to_where_he_is():
    known = KnownMap(make_graphs())
    known.add(0, np.array([1, 3]))
    assert known.path(0, 0) == []
