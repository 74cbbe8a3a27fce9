"""NDH scores agree with recorded runs and with numbers worked by hand."""

import gzip
import json

import pytest

from prevalent.metrics.navigation import mean_dialog_scores, reference_path, score_dialog
from prevalent.simulator.graph import load_graphs

TOLERANCE = 1e-6
LINE = {name: 2.0 * i for i, name in enumerate("abcde")}


def on_line(a, b):
    return abs(LINE[a] - LINE[b])


ITEM = {"planner_path": list("abc"), "player_path": list("abcd"), "end_panos": ["e"]}


def test_progress_is_the_shrinking_distance_to_the_end():
    scores = score_dialog(list("abc"), ITEM, on_line)
    assert scores.goal_progress == 4
    assert scores.nav_error == 2
    assert score_dialog(list("a"), ITEM, on_line).goal_progress == 0


def test_mixed_supervision_trusts_a_player_who_reached_the_plans_end():
    assert reference_path(ITEM, "trusted_path") == list("abcd")
    strayed = ITEM | {"player_path": ["a", "b"]}
    assert reference_path(strayed, "trusted_path") == list("abc")


def test_staying_where_the_path_is_one_point_has_spl_one():
    item = ITEM | {"planner_path": ["a"]}
    assert score_dialog(["a"], item, on_line, "planner_path").spl == 1
    assert score_dialog(["a", "b", "a"], item, on_line, "planner_path").spl == 0


def test_progress_of_failures_is_left_out_of_sc_dr():
    scores = [score_dialog(list("abcd"), ITEM, on_line), score_dialog(["a", "b"], ITEM, on_line)]
    means = mean_dialog_scores(scores)
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
                score = score_dialog(walked, item, distance, path_type)
                for name in ("nav_error", "oracle_error", "oracle_plan_error", "goal_progress"):
                    assert getattr(score, name) == pytest.approx(item[name], abs=TOLERANCE), name
                assert score.length == pytest.approx(item["length"], abs=TOLERANCE)
                assert score.shortest == pytest.approx(item["shortest"], abs=TOLERANCE)
                seen += 1
    assert seen
