"""Published figures stand beside ours, or are marked as not run."""

import json

import pytest

from prevalent.report import SCORES, SPLITS, ReportConfig, report
from prevalent.runtime.published import read_published

FIGURE = """
source = "a paper"
[[figure]]
table = "Table 2"
row = "Random"
dataset = "R2R val seen"
metric = "SR"
unit = "%"
value = 16
confidence = "low"
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "r2r.toml").write_text(FIGURE)
    return ReportConfig(published=tmp_path / "published", runs=tmp_path / "runs")


def test_what_was_not_run_says_so(config):
    assert "| 16 % | low | not run |" in report(config)


def test_ours_stands_beside(config):
    config.runs.mkdir()
    record = {"task": "r2r", "split": "val_seen", "row": "Random", "path_type": None}
    record["scores"] = {"success_rate": 0.1554}
    (config.runs / "evaluation.json").write_text(json.dumps(record))
    assert "| 16 % | low | 15.54 % |" in report(config)


def test_a_damaged_evaluation_is_named(config):
    config.runs.mkdir()
    (config.runs / "evaluation.json").write_text("{")
    with pytest.raises(ValueError, match=r"evaluation\.json is damaged"):
        report(config)


def test_no_figures_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no \*\.toml"):
        report(ReportConfig(published=tmp_path))


def test_every_published_figure_can_be_matched(request):
    figures = read_published(request.config.rootpath / "published")
    assert figures
    for figure in figures:
        task, _ = SPLITS[figure.dataset]
        assert (task, figure.metric.partition(", ")[0]) in SCORES
