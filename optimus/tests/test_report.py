import json
from pathlib import Path

import pytest

from optimus.report import ReportConfig, main, report, run_of
from optimus.runtime.published import read_published

PUBLISHED = Path(__file__).parents[1] / "published"


def write_results(runs: Path, run: str, **scores: float) -> None:
    (runs / run).mkdir(parents=True)
    (runs / run / "eval_results.json").write_text(json.dumps(scores))


def test_a_figure_without_a_run_says_so(tmp_path):
    text = report(ReportConfig(PUBLISHED, tmp_path))
    assert text.count("not run") == len(read_published(PUBLISHED))


def test_a_run_stands_beside_the_figure_of_its_script(tmp_path):
    write_results(tmp_path, "language_modeling/penn_0.05", perplexity=24.125, mi=3.5)
    rows = [
        line for line in report(ReportConfig(PUBLISHED, tmp_path)).splitlines() if "23.58" in line
    ]
    assert len(rows) == 1
    assert "| 24.12 |" in rows[0]
    assert "verified" in rows[0]


def test_a_run_of_no_published_row_is_listed_by_itself(tmp_path, capsys):
    write_results(tmp_path, "from_scratch/small_penn_0.50", perplexity=100.0, au=32)
    main(["--published", str(PUBLISHED), "--runs", str(tmp_path)])
    text = capsys.readouterr().out
    assert "| from_scratch/small_penn_0.50 | 100.00 | 32 |" in text


def test_a_damaged_result_is_named(tmp_path):
    (tmp_path / "eval_results.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        report(ReportConfig(PUBLISHED, tmp_path))


def test_figures_that_are_not_there_are_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="--published"):
        report(ReportConfig(tmp_path, tmp_path))


def test_the_run_of_a_script_has_its_name():
    assert run_of("scripts/language_modeling/penn_0.05.sh") == "language_modeling/penn_0.05"


def test_only_figures_read_in_a_source_are_called_verified():
    verified = [f for f in read_published(PUBLISHED) if f.confidence == "verified"]
    assert sorted((f.dataset, f.value) for f in verified) == [("PTB", 23.58), ("Yelp", 21.99)]
