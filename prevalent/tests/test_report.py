"""Evaluations of runs stand beside the row that they name, or by themselves with the reason."""

import json
from pathlib import Path

import pytest

from prevalent.report import SCORES, SPLITS, comparison, main
from prevalent.runtime import evaluation
from prevalent.runtime.evaluation import Provenance
from prevalent.runtime.published import find_folder, read_published
from prevalent.runtime.report import ReportConfig


def write_evaluation(runs: Path, name: str = "evaluation.json", **content) -> None:
    runs.mkdir(exist_ok=True)
    record = {"task": "r2r", "split": "val_unseen", "row": "PREVALENT", "path_type": None}
    record["scores"] = {"success_rate": 0.5796, "spl": 0.53}
    (runs / name).write_text(json.dumps(record | content))


def line_of(runs: Path, *key: str):
    made = comparison(ReportConfig(runs=runs))
    return next(line for _, lines in made.tables for line in lines if line.figure.key == key)


UNSEEN = ("Table 1", "PREVALENT", "R2R val unseen", "SR")


def theirs(line):
    return [one for one in line.ours if one.evidence.startswith("evaluation")]


def test_an_evaluation_stands_beside_the_row_that_it_names(tmp_path):
    assert line_of(tmp_path, *UNSEEN).state == "run otherwise"  # the small agent's record
    write_evaluation(tmp_path)
    line = line_of(tmp_path, *UNSEEN)
    assert [str(one) for one in theirs(line)] == ["57.96 %"]
    assert line.state == "met"
    assert not theirs(line_of(tmp_path, "Table 1", "PREVALENT", "R2R val seen", "SR"))


def test_a_trial_is_marked_and_compares_with_nothing(tmp_path):
    write_evaluation(tmp_path, provenance={"trial": True})
    line = line_of(tmp_path, *UNSEEN)
    assert line.state == "run otherwise"
    assert [str(one) for one in theirs(line)] == ["57.96 % (trial)"]


@pytest.mark.parametrize("setting", ["allow_jumps", "one_text"])
def test_an_evaluation_in_another_way_compares_with_nothing(tmp_path, setting):
    write_evaluation(tmp_path, provenance={"settings": {"beam": 0, setting: True}})
    line = line_of(tmp_path, *UNSEEN)
    assert line.state == "run otherwise"
    (one,) = theirs(line)
    assert one.differs == f"evaluated with --{setting.replace('_', '-')}"


def test_a_dialog_stands_beside_the_path_that_it_learned(tmp_path):
    write_evaluation(
        tmp_path,
        task="ndh",
        path_type="trusted_path",
        scores={"dist_to_end_reduction": 3.152},
    )
    for metric, expected in (("Mixed", ["3.152 m"]), ("Oracle", [])):
        line = line_of(tmp_path, "Table 2", "PREVALENT", "CVDN val unseen", metric)
        assert [str(one) for one in theirs(line)] == expected


def test_an_evaluation_of_no_row_is_listed_by_itself(tmp_path, capsys):
    write_evaluation(tmp_path, row=None)
    main(["--runs", str(tmp_path)])
    assert "| . | r2r val_unseen | SR | 57.96 |  | it names no published row |" in (
        capsys.readouterr().out
    )


FOREIGN = [
    *("{", "[1]", "5", "null", '"text"', '{"scores": {}}', '{"accuracy": 0.5}'),
    '{"task": "r2r", "split": "val_unseen", "scores": {"spl": "high"}}',
    '{"task": "r2r", "split": "val_unseen", "scores": {"spl": [0.5]}}',
    '{"task": "r2r", "split": "val_unseen", "scores": {"spl": NaN}}',
    '{"task": "r2r", "split": "val_unseen", "scores": [0.5]}',
    '{"task": ["r2r"], "split": "val_unseen", "scores": {"spl": 0.5}}',
    '{"task": "glue", "split": "dev", "scores": {"spl": 0.5}}',
    '{"task": "r2r", "split": null, "scores": {"spl": 0.5}}',
    "[" * 20_000,
    "\ud800",
]


@pytest.mark.parametrize("content", FOREIGN, ids=range(len(FOREIGN)))
def test_a_foreign_file_is_named_and_left_out(tmp_path, content, capsys):
    path = tmp_path / "evaluation_other.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    main(["--runs", str(tmp_path)])
    assert f"{path} is " in capsys.readouterr().out


def test_a_folder_with_the_name_of_an_evaluation_is_no_reason_to_stop(tmp_path, capsys):
    (tmp_path / "evaluation_all.json").mkdir()
    main(["--runs", str(tmp_path)])
    assert "evaluation_all.json is a folder" in capsys.readouterr().out


def test_a_score_that_was_infinite_is_left_out(tmp_path):
    write_evaluation(tmp_path, scores={"success_rate": 0.5796, "spl": None})
    assert line_of(tmp_path, *UNSEEN).state == "met"
    assert not theirs(line_of(tmp_path, "Table 1", "PREVALENT", "R2R val unseen", "SPL"))


@pytest.mark.parametrize("task", ["r2r", "ndh"])
def test_scores_of_hidden_goals_stand_beside_nothing(tmp_path, task, capsys):
    write_evaluation(tmp_path, task=task, split="test", path_type="trusted_path",
                     scores={"success_rate": 1.0, "dist_to_end_reduction": 9.0})  # fmt: skip
    main(["--runs", str(tmp_path)])
    assert "evaluation.json is of a split whose goals are hidden" in capsys.readouterr().out
    made = comparison(ReportConfig(runs=tmp_path))
    assert not [one for _, lines in made.tables for line in lines for one in theirs(line)]
    assert not [one for one in made.elsewhere if one.evidence == "evaluation.json"]


def test_an_evaluation_fills_the_row_that_it_names_and_no_other(tmp_path):
    write_evaluation(tmp_path)
    made = comparison(ReportConfig(runs=tmp_path))
    lines = [line for _, lines in made.tables for line in lines if theirs(line)]
    assert {line.figure.row for line in lines} == {"PREVALENT"}
    rows = {line.figure.row for _, lines in made.tables for line in lines}
    assert any(row.startswith("PREVALENT ") for row in rows)


def test_a_part_of_a_split_is_shown_as_one(tmp_path):
    about = Provenance("r2r", "val_unseen", items=1, left_out=2348, trial=True)
    record = {"task": "r2r", "split": "val_unseen", "row": "PREVALENT", "scores": {"spl": 1.0}}
    (tmp_path / "runs").mkdir()
    evaluation.write_evaluation(tmp_path / "runs/evaluation.json", record, about)
    line = line_of(tmp_path / "runs", "Table 1", "PREVALENT", "R2R val unseen", "SPL")
    assert [str(one) for one in theirs(line)] == ["100.0 % (trial)"]
    assert line.state == "run otherwise"


def test_the_report_is_made_in_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main([])
    assert "Published figures and ours" in capsys.readouterr().out


def test_every_figure_of_an_evaluation_can_be_matched():
    figures = [one for one in read_published(find_folder("published")) if one.data in SPLITS]
    assert len(figures) > 200
    published = {(SPLITS[one.data][0], one.metric) for one in figures}
    assert published == {key for key in SCORES if key[0] in ("r2r", "ndh", "hanna")}
