"""Evaluations of runs stand beside the row that they name, or by themselves with the reason."""

import json
from pathlib import Path

import pytest

from prevalent.report import SCORES, SPLITS, comparison, main
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


@pytest.mark.parametrize("content", ["{", "[1]", '{"scores": {}}', '{"accuracy": 0.5}'])
def test_a_foreign_file_is_named_and_left_out(tmp_path, content, capsys):
    (tmp_path / "evaluation_other.json").write_text(content)
    main(["--runs", str(tmp_path)])
    assert f"{tmp_path / 'evaluation_other.json'} is " in capsys.readouterr().out


def test_every_figure_of_an_evaluation_can_be_matched():
    figures = [one for one in read_published(find_folder("published")) if one.data in SPLITS]
    assert len(figures) > 200
    assert {(SPLITS[one.data][0], one.metric) for one in figures} == set(SCORES)
