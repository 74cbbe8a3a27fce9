"""R2R scores agree with recorded runs and with numbers worked by hand."""

import gzip
import json
import math

import pytest

from prevalent.metrics.navigation import (
    coverage_length_score,
    mean_scores,
    normalized_dtw,
    score_path,
    without_repeats,
)
from prevalent.simulator.graph import load_graphs

TOLERANCE = 1e-6

# a - b - c - d on a line, 2 m apart
LINE = {name: 2.0 * i for i, name in enumerate("abcd")}


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
