"""HANNA scores agree with recorded runs."""

import gzip
import json

import pytest

from prevalent.metrics.navigation import (
    mean_assistance_scores,
    mean_request_scores,
    score_assistance,
)
from prevalent.simulator.graph import load_graphs

TOLERANCE = 1e-6


def test_an_episode_by_hand():
    line = {name: 2.0 * i for i, name in enumerate("abcd")}
    result = {
        "agent_pose": [["a", 0, 0], ["b", 0, 0], ["c", 0, 0]],
        "agent_ask": [1, 0],
        "agent_nav": [-1, 1],
        "target_viewpoints": [["d"], ["c"], ["c"]],
    }
    scores = score_assistance(result, ["d"], lambda a, b: abs(line[a] - line[b]))
    assert (scores.error, scores.length, scores.optimal_length) == (2, 4, 6)
    assert scores.target_errors == (0.0,)
    means = mean_assistance_scores([scores])
    assert means["success_rate"] == 1
    assert means["spl"] == 1
    assert means["queries_per_ep"] == 1


def test_the_oracle_stops_nearest_to_any_goal():
    line = {name: 2.0 * i for i, name in enumerate("abcdefg")}
    result = {"agent_pose": [[name, 0, 0] for name in "dcde"]}
    scores = score_assistance(result, ["b", "g"], lambda a, b: abs(line[a] - line[b]))
    assert (scores.error, scores.oracle_error, scores.oracle_length) == (4, 2, 2)


def test_a_subtask_ends_where_the_next_route_begins():
    line = {name: 2.0 * i for i, name in enumerate("abcd")}
    result = {
        "agent_pose": [[name, 0, 0] for name in "aabb"],
        "agent_ask": [1, 1, 0],
        "agent_nav": [-1, -1, 0],
        "target_viewpoints": [["d"], ["c"], ["d"], ["d"]],
    }
    scores = score_assistance(result, ["d"], lambda a, b: abs(line[a] - line[b]))
    assert scores.target_errors == (2.0, 4.0)


def test_without_requests_the_target_rate_is_minus_one():
    result = {"agent_pose": [["a", 0, 0]], "agent_ask": [], "target_viewpoints": [["a"]]}
    scores = score_assistance(result, ["a"], lambda a, b: 0.0)
    assert mean_assistance_scores([scores])["target_success_rate"] == -1


def test_repeated_mistakes_and_requests_by_hand():
    result = {
        "agent_pose": [[name, 0, 0] for name in "aababab"],
        "agent_nav": [-1, 1, 1, -1, 1, 2],
        "teacher_nav": [-1, 2, 1, -1, 1, 2],
        "agent_ask": [1, 0, 0, 1, 0, 0],
        "teacher_ask": [1, 0, 1, 0, -1, 0],
        "instruction": ["find"] * 7,
    }
    again = {**result, "agent_pose": [[name, 0, 0] for name in "abababa"]}
    again |= {"agent_nav": [1] * 6, "teacher_nav": [2, 1, 2, -1, 1, 1], "agent_ask": [0] * 6}
    assert mean_request_scores([again])["repeat_nav"] == 0.5
    scores = mean_request_scores([result])
    assert scores["repeat_nav"] == 0
    assert scores["repeat_ask"] == 0.5
    assert (scores["agent_ask"], scores["teacher_ask"]) == (0.4, 0.4)
    assert (scores["ask_accuracy"], scores["ask_precision"], scores["ask_recall"]) == (
        0.6,
        0.5,
        0.5,
    )
    assert mean_request_scores([{"agent_pose": [["a", 0, 0]]}]) == {}


@pytest.mark.golden
def test_recorded_episodes_agree(golden, data_dir):
    path = golden / "metrics" / "hanna_metrics.json.gz"
    if not path.exists():
        pytest.skip("this golden folder has no metrics/hanna_metrics.json.gz")
    content = json.loads(gzip.decompress(path.read_bytes()))
    graphs = load_graphs(data_dir / "connectivity")
    tasks = {str(item["path_id"]): item for item in content["data"]}
    scores = []
    for result in content["results"]:
        task = tasks[result["instr_id"].rsplit("_", 1)[0]]
        goals = [path[-1] for path in task["paths"]]
        distance = graphs.by_name(task["scan"]).distance
        scores.append(score_assistance(result, goals, distance))
    recorded = content["scores"]
    names = {
        "error": "errors",
        "oracle_error": "oracle_errors",
        "steps": "steps",
        "length": "lengths",
        "oracle_length": "oracle_lengths",
        "optimal_length": "optimal_lengths",
    }
    for ours, theirs in names.items():
        found = [getattr(score, ours) for score in scores]
        assert found == pytest.approx(recorded[theirs], abs=TOLERANCE), ours
    targets = [error for score in scores for error in score.target_errors]
    assert targets == pytest.approx(recorded["target_errors"], abs=TOLERANCE)
    summary = mean_assistance_scores(scores)
    for name, value in content["summary"].items():
        assert summary[name] == pytest.approx(value, abs=TOLERANCE), name
