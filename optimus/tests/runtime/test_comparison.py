"""Ours stand beside the published figures of their protocol, and apart where they differ."""

from dataclasses import replace
from decimal import Decimal

import pytest

from optimus.runtime.comparison import agrees, compare, difference
from optimus.runtime.published import Figure, Result, Table
from optimus.runtime.report import ReportConfig, markdown, open_comparison, page, write_report

FIGURE = Figure("Table 1", "Random", "val", "NE", Decimal("9.45"), "arXiv 1", "high", unit="m")
OURS = Result("random", "val", "NE", Decimal("9.4507"), table="Table 1", published="Random")
TABLE = Table("Table 1", "Rooms", "Someone", "features", "3", "run it", ("val",), (FIGURE,))


@pytest.mark.parametrize(
    ("changes", "published", "expected"),
    [
        ({}, {}, True),
        ({"value": Decimal("9.455")}, {}, True),
        ({"value": Decimal("9.456")}, {}, False),
        ({"value": Decimal("9.456")}, {"value": Decimal("9.5")}, True),
        ({"value": Decimal(16)}, {"value": Decimal("15.87")}, False),
        ({"value": Decimal("9.6"), "least": Decimal(9), "greatest": Decimal(10)}, {}, True),
        ({"value": Decimal("9.6"), "spread": Decimal("0.08")}, {}, True),
        ({"value": Decimal("9.6"), "spread": Decimal("0.07")}, {}, False),
        ({"value": Decimal("9.6")}, {"spread": Decimal("0.08")}, True),
        ({"value": Decimal(20)}, {"at_least": True}, True),
    ],
)
def test_agreement_follows_printed_digits_ranges_and_deviations(changes, published, expected):
    assert agrees(replace(FIGURE, **published), replace(OURS, **changes)) is expected


def test_each_figure_is_met_or_differs_or_was_run_otherwise_or_not_run():
    names = ["Random", "Seq2Seq", "PRESS", "Human"]
    table = replace(TABLE, figures=tuple(replace(FIGURE, row=name) for name in names))
    runs = [
        OURS,
        replace(OURS, published="Seq2Seq", value=Decimal(8)),
        replace(OURS, published="PRESS", differs="random features"),
        replace(OURS, published="", differs="no such row"),
    ]
    comparison = compare([table], [], runs)
    ((_, lines),) = comparison.tables
    assert [line.state for line in lines] == ["met", "differs", "run otherwise", "not run"]
    assert [difference(line) for line in lines] == ["+0.0007", "-1.45", "", ""]
    assert list(comparison.elsewhere) == runs[2:]
    (summary,) = comparison.summaries()
    assert (summary.rows, summary.counts["met"], summary.counts["not run"]) == (4, 1, 1)


def test_a_result_of_a_figure_that_no_table_has_is_refused():
    with pytest.raises(ValueError, match="no table has"):
        compare([TABLE], [], [replace(OURS, published="Randon", evidence="x")])


def test_the_report_shows_ours_beside_and_apart():
    apart = replace(OURS, row="apart", differs="random features", evidence="small")
    text = markdown(compare([TABLE], [], [OURS, apart], ["a.json is damaged."]))
    assert "| Random | val | NE | 9.45 m | 9.4507 | +0.0007 | met |" in text
    assert "| apart | val | NE | 9.4507 | Table 1, Random | random features | small |" in text
    assert text.rstrip().endswith("a.json is damaged.")
    assert "| Table 1 | Rooms | 1 | 1 | 1 |" in text


def test_the_page_holds_every_figure_and_loads_nothing():
    figure = replace(FIGURE, row="<Random>", source="https://example.org")
    text = page([("Rooms & co", compare([replace(TABLE, figures=(figure,))], [], [OURS][:0]))])
    assert "&lt;Random&gt;" in text
    assert "Rooms &amp; co" in text
    assert not any(word in text for word in ("src=", "href=", "@import", "url("))
    assert "<svg" in text


def test_a_file_is_written_in_the_form_its_name_says(tmp_path, capsys):
    comparison = compare([TABLE], [], [OURS])
    for name, start in (("a.md", "# Published"), ("b.html", "<!doctype html>")):
        write_report(ReportConfig(output=tmp_path / name), comparison, "Rooms")
        assert (tmp_path / name).read_text().startswith(start)
    write_report(ReportConfig(), comparison, "Rooms")
    assert capsys.readouterr().out.startswith("# Published figures and ours")


def test_figures_that_are_not_there_are_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="--published"):
        open_comparison(ReportConfig(published=tmp_path, evidence=tmp_path))
