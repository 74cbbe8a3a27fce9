"""State-factored search against recorded results, and what must hold for any search."""

from itertools import pairwise

import numpy as np
import pytest

from prevalent.agents.search import choose, path_score, rescore, search
from tests.recorded_agents import Recorded, accumulate, rollout_cases
from tests.small_agents import make_batch, make_follower, make_speaker

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
