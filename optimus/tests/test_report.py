"""Results of runs stand beside the figures of their scripts, or by themselves with the reason."""

import json
from pathlib import Path

import pytest

from optimus.report import comparison, main, run_of
from optimus.runtime.report import ReportConfig


def write_results(runs: Path, run: str, name: str = "eval_results.json", **scores) -> None:
    (runs / run).mkdir(parents=True, exist_ok=True)
    (runs / run / name).write_text(json.dumps(scores))


def line_of(runs: Path, *key: str):
    made = comparison(ReportConfig(runs=runs))
    return next(line for _, lines in made.tables for line in lines if line.figure.key == key)


PENN = ("Table 1", "Optimus lambda=0.05", "PTB", "PPL")


def test_a_run_stands_beside_the_figure_of_its_script(tmp_path):
    assert line_of(tmp_path, *PENN).state == "not run"
    write_results(tmp_path, "language_modeling/penn_0.05", perplexity=24.125, mi=3.784)
    line = line_of(tmp_path, *PENN)
    assert (str(line.ours[0]), line.state) == ("24.125", "differs")
    assert line.ours[0].evidence == "language_modeling/penn_0.05/eval_results.json"
    assert line_of(tmp_path, *PENN[:3], "MI").state == "met"


def test_a_trial_is_marked_and_compares_with_nothing(tmp_path):
    about = {"kind": "language-model", "data": "penn", "trial": True}
    write_results(
        tmp_path,
        "language_modeling/penn_0.05",
        "eval_results.trial.json",
        perplexity=23.58,
        provenance=about,
    )
    line = line_of(tmp_path, *PENN)
    assert line.state == "run otherwise"
    assert "(trial)" in str(line.ours[0])
    assert "(language-model)" in line.ours[0].row


def test_a_run_of_no_published_row_is_listed_by_itself(tmp_path, capsys):
    write_results(tmp_path, "mine/first", perplexity=100.0, au=32, name_of_model="x")
    main(["--runs", str(tmp_path)])
    text = capsys.readouterr().out
    assert "| mine/first |  | PPL | 100.0 |  | no published row |" in text
    assert "| mine/first |  | AU | 32 |" in text


def test_samples_by_label_are_not_those_of_the_papers_gan(tmp_path):
    write_results(tmp_path, "label_control/yelp", conditional_accuracy=0.9, transfer_accuracy=0.5)
    line = line_of(tmp_path, "Table 6", "Optimus", "Yelp sentiment", "Accuracy")
    assert line.state == "run otherwise"
    assert "0.9" in [str(one) for one in line.ours]


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_file_that_is_no_evaluation_is_named_and_left_out(tmp_path, content, capsys):
    (tmp_path / "eval_results.json").write_text(content)
    main(["--runs", str(tmp_path)])
    assert f"{tmp_path / 'eval_results.json'} is " in capsys.readouterr().out


def test_the_report_works_from_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main([])
    assert "| Table 1 | Language modelling | 13 | 126 |" in capsys.readouterr().out
    main(["--output", "report.html"])
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_the_run_of_a_script_has_its_name():
    assert run_of("scripts/language_modeling/penn_0.05.sh") == "language_modeling/penn_0.05"
