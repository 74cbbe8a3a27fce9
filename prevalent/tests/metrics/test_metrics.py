"""R2R scores agree with recorded runs and with numbers worked by hand."""

from __future__ import annotations

import gzip
import json
import math

import pytest

from prevalent.metrics.language import corpus_bleu
from prevalent.metrics.navigation import (
    coverage_length_score,
    mean_hanna_scores,
    mean_ndh_scores,
    mean_request_scores,
    mean_scores,
    normalized_dtw,
    reference_path,
    score_hanna,
    score_ndh,
    score_path,
    without_repeats,
)
from prevalent.simulator.graph import load_graphs

TOLERANCE = 1e-6

# a - b - c - d - e on a line, 2 m apart
LINE = {name: 2.0 * i for i, name in enumerate("abcde")}


def on_line(a, b):
    return abs(LINE[a] - LINE[b])


def test_a_perfect_walk_scores_one():
    scores = score_path("abcd", "abcd", on_line)
    assert (scores.nav_error, scores.length, scores.shortest) == (0, 6, 6)
    assert scores.success
    assert scores.spl == scores.ndtw == scores.sdtw == scores.cls == 1


def test_a_detour_is_weighted_by_its_length():
    scores = score_path("abcbcd", "abcd", on_line)
    assert scores.length == 10
    assert scores.spl == pytest.approx(0.6)


def test_stopping_short_keeps_the_oracle_success():
    scores = score_path("abcdcba", "abcd", on_line)
    assert not scores.success
    assert scores.oracle_success
    assert scores.spl == scores.sdtw == 0


def test_success_is_strictly_below_the_radius():
    assert not score_path("ab", "abcd", on_line, radius=4.0).success
    assert score_path("ab", "abcd", on_line, radius=4.1).success


def test_dtw_by_hand():
    # best alignment of a,b with a,b,c,d: b stays for c and d, at 2 m and 4 m
    assert normalized_dtw("ab", "abcd", on_line) == pytest.approx(math.exp(-6 / (4 * 3)))
    assert normalized_dtw("aabb", "abcd", on_line) == normalized_dtw("ab", "abcd", on_line)


def test_coverage_by_hand():
    coverage = (1 + 1 + math.exp(-2 / 3) + math.exp(-4 / 3)) / 4
    expected = coverage * 6
    score = coverage * expected / (expected + abs(expected - 2))
    assert coverage_length_score("ab", "abcd", on_line) == pytest.approx(score)


def test_rotations_are_one_entry():
    assert without_repeats("aabba") == ["a", "b", "a"]


def test_a_trajectory_from_elsewhere_is_refused():
    with pytest.raises(ValueError, match="begins at 'b', its path at 'a'"):
        score_path("bcd", "abcd", on_line)


def test_nothing_to_score_is_refused():
    with pytest.raises(ValueError, match="no trajectory"):
        mean_scores([])


def viewpoints(trajectory):
    return [step[0] if isinstance(step, list) else step for step in trajectory]


@pytest.fixture
def recorded(golden, data_dir):
    path = golden / "metrics" / "r2r_metrics.json.gz"
    if not path.exists():
        pytest.skip("this golden folder has no metrics/r2r_metrics.json.gz")
    return json.loads(gzip.decompress(path.read_bytes())), load_graphs(data_dir / "connectivity")


@pytest.mark.golden
def test_recorded_items_and_subsets_agree(recorded):
    content, graphs = recorded
    splits = {name: part for name, part in content.items() if "items" in part}
    assert splits
    for part in splits.values():
        scores = []
        for item in part["items"]:
            distance = graphs.by_name(item["scan"]).distance
            score = score_path(viewpoints(item["trajectory"]), item["gt_path"], distance)
            for name in ("nav_error", "oracle_error", "steps", "length", "shortest", "spl"):
                assert getattr(score, name) == pytest.approx(item[name], abs=TOLERANCE), name
            assert score.success == item["success"]
            scores.append(score)
        summary = mean_scores(scores)
        for name, value in part["summary_subset"].items():
            assert summary[name] == pytest.approx(value, abs=TOLERANCE), name


@pytest.mark.golden
def test_recorded_edge_cases_agree(recorded):
    content, graphs = recorded
    for case in content["edge_cases"]:
        distance = graphs.by_name(case["scan"]).distance
        summary = mean_scores([score_path(case["trajectory"], case["gt_path"], distance)])
        for name, value in case["summary"].items():
            assert summary[name] == pytest.approx(value, abs=TOLERANCE), (case["case"], name)


ITEM = {"planner_path": list("abc"), "player_path": list("abcd"), "end_panos": ["e"]}


def test_progress_is_the_shrinking_distance_to_the_end():
    scores = score_ndh(list("abc"), ITEM, on_line)
    assert scores.goal_progress == 4
    assert scores.nav_error == 2
    assert score_ndh(list("a"), ITEM, on_line).goal_progress == 0


def test_mixed_supervision_trusts_a_player_who_reached_the_plans_end():
    assert reference_path(ITEM, "trusted_path") == list("abcd")
    strayed = ITEM | {"player_path": ["a", "b"]}
    assert reference_path(strayed, "trusted_path") == list("abc")


def test_staying_where_the_path_is_one_point_has_spl_one():
    item = ITEM | {"planner_path": ["a"]}
    assert score_ndh(["a"], item, on_line, "planner_path").spl == 1
    assert score_ndh(["a", "b", "a"], item, on_line, "planner_path").spl == 0


def test_progress_of_failures_is_left_out_of_sc_dr():
    scores = [score_ndh(list("abcd"), ITEM, on_line), score_ndh(["a", "b"], ITEM, on_line)]
    means = mean_ndh_scores(scores)
    assert means["dist_to_end_reduction"] == 4
    assert means["sc_dr"] == 3


@pytest.mark.golden
def test_recorded_items_agree(golden, data_dir):
    path = golden / "metrics" / "ndh_metrics.json.gz"
    if not path.exists():
        pytest.skip("this golden folder has no metrics/ndh_metrics.json.gz")
    graphs = load_graphs(data_dir / "connectivity")
    seen = 0
    for split in json.loads(gzip.decompress(path.read_bytes())).values():
        parts = {name: part for name, part in split.items() if isinstance(part, dict)}
        # A trajectory is stored with one path type only; the others refer to it by its index.
        walks = {
            item["inst_idx"]: [step[0] for step in item["trajectory"]]
            for part in parts.values()
            for item in part["items"]
            if item["trajectory"] is not None
        }
        for path_type, part in parts.items():
            for item in part["items"]:
                walked = walks[item["inst_idx"]]
                distance = graphs.by_name(item["scan"]).distance
                score = score_ndh(walked, item, distance, path_type)
                for name in ("nav_error", "oracle_error", "oracle_plan_error", "goal_progress"):
                    assert getattr(score, name) == pytest.approx(item[name], abs=TOLERANCE), name
                assert score.length == pytest.approx(item["length"], abs=TOLERANCE)
                assert score.shortest == pytest.approx(item["shortest"], abs=TOLERANCE)
                seen += 1
    assert seen


def test_an_episode_by_hand():
    line = {name: 2.0 * i for i, name in enumerate("abcd")}
    result = {
        "agent_pose": [["a", 0, 0], ["b", 0, 0], ["c", 0, 0]],
        "agent_ask": [1, 0],
        "agent_nav": [-1, 1],
        "target_viewpoints": [["d"], ["c"], ["c"]],
    }
    scores = score_hanna(result, ["d"], lambda a, b: abs(line[a] - line[b]))
    assert (scores.error, scores.length, scores.optimal_length) == (2, 4, 6)
    assert scores.target_errors == (0.0,)
    means = mean_hanna_scores([scores])
    assert means["success_rate"] == 1
    assert means["spl"] == 1
    assert means["queries_per_ep"] == 1


def test_the_oracle_stops_nearest_to_any_goal():
    line = {name: 2.0 * i for i, name in enumerate("abcdefg")}
    result = {"agent_pose": [[name, 0, 0] for name in "dcde"]}
    scores = score_hanna(result, ["b", "g"], lambda a, b: abs(line[a] - line[b]))
    assert (scores.error, scores.oracle_error, scores.oracle_length) == (4, 2, 2)


def test_a_subtask_ends_where_the_next_route_begins():
    line = {name: 2.0 * i for i, name in enumerate("abcd")}
    result = {
        "agent_pose": [[name, 0, 0] for name in "aabb"],
        "agent_ask": [1, 1, 0],
        "agent_nav": [-1, -1, 0],
        "target_viewpoints": [["d"], ["c"], ["d"], ["d"]],
    }
    scores = score_hanna(result, ["d"], lambda a, b: abs(line[a] - line[b]))
    assert scores.target_errors == (2.0, 4.0)


def test_without_requests_the_target_rate_is_minus_one():
    result = {"agent_pose": [["a", 0, 0]], "agent_ask": [], "target_viewpoints": [["a"]]}
    scores = score_hanna(result, ["a"], lambda a, b: 0.0)
    assert mean_hanna_scores([scores])["target_success_rate"] == -1


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
        scores.append(score_hanna(result, goals, distance))
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
    summary = mean_hanna_scores(scores)
    for name, value in content["summary"].items():
        assert summary[name] == pytest.approx(value, abs=TOLERANCE), name


def test_bleu_by_hand():
    # unigrams 3/4, bigrams 2/3; reference lengths 3 (shortest) and 4 (closest)
    references = [[["a", "b", "c"], ["a", "b", "c", "x"]]]
    candidate = [["a", "b", "c", "d"]]
    score = corpus_bleu(references, candidate, max_order=2)
    assert score.precisions == pytest.approx([3 / 4, 2 / 3])
    assert score.bleu == pytest.approx(math.sqrt(3 / 4 * 2 / 3))
    assert score.reference_length == 3
    assert corpus_bleu(references, candidate, reference_length="closest").reference_length == 4


def test_a_short_candidate_pays_the_brevity_penalty():
    score = corpus_bleu([[["a", "b", "c", "d"]]], [["a", "b"]], max_order=1)
    assert score.bleu == pytest.approx(math.exp(1 - 4 / 2))


def test_unequal_lists_are_refused():
    with pytest.raises(ValueError, match="2 candidates need as many"):
        corpus_bleu([[["a"]]], [["a"], ["b"]])


@pytest.mark.golden
def test_recorded_bleu_agrees(golden):
    path = golden / "metrics" / "r2r_metrics.json.gz"
    if not path.exists():
        pytest.skip("this golden folder has no metrics/r2r_metrics.json.gz")
    cases = json.loads(gzip.decompress(path.read_bytes()))["bleu"]
    for case in cases:
        for key, smooth in (("bleu,precisions,bp,ratio,len,reflen", False), ("smooth", True)):
            bleu, precisions, *rest = case[key]
            score = corpus_bleu(case["refs"], case["cands"], smooth=smooth)
            assert score.bleu == pytest.approx(bleu, abs=1e-9)
            assert score.precisions == pytest.approx(precisions, abs=1e-9)
            assert list(score[2:]) == pytest.approx(rest, abs=1e-9)
