"""The published figures are whole tables that agree with each other and a copy made by hand."""

from pathlib import Path

import pytest

from prevalent.runtime.published import read_published, read_tables

PUBLISHED = Path(__file__).parents[1] / "published"
FIGURES = {figure.key: figure for figure in read_published(PUBLISHED)}


def test_tables_are_whole():
    counts = {table.label: len(table.figures) for table in read_tables(PUBLISHED)}
    assert counts == {
        "Table 1": 132,
        "Table 2": 24,
        "Table 3": 56,
        "Table 4": 36,
        "Table 5": 24,
        "Table 7": 32,
        "Data": 13,
        "R2R data": 4,
        "Network": 6,
        "R4R data": 9,
        "RxR data": 3,
    }


@pytest.mark.parametrize(
    ("key", "printed"),
    [
        (("Table 1", "Random", "R2R val seen", "NE"), "9.45 m"),
        (("Table 1", "Seq2Seq", "R2R test", "SPL"), "18 %"),
        (("Table 1", "PREVALENT", "R2R val unseen", "SPL"), "53 %"),
        (("Table 1", "PREVALENT (M)", "R2R test", "SR"), "59 %"),
        (("Table 1", "Human", "R2R test", "NE"), "1.61 m"),
        (("Table 2", "Shortest path", "CVDN test", "Mixed"), "9.76 m"),
        (("Table 3", "Shortest", "HANNA test SeenEnv", "SR"), "100.00 %"),
        (("Table 3", "ANNA (base agent)", "HANNA test UnseenAll", "requests"), "5.8"),
        (("Table 4", "BERT fine-tuning", "input All", "Navigator"), "2.93 m"),
        (("Table 5", "feature-based (frozen encoder)", "R2R test", "TL"), "9.99 m"),
        (("Table 7", "BERT (feature-based)", "HANNA test UnseenAll", "requests"), "11.3"),
    ],
)
def test_figures_checked_by_hand(key, printed):
    assert str(FIGURES[key]) == printed


def test_rows_that_two_tables_print_are_equal_but_for_one_figure():
    pairs = [
        (("Table 5", "two-stage fine-tuning"), ("Table 1", "PREVALENT")),
        (("Table 7", "PREVALENT (L_PA + L_MLM)"), ("Table 3", "PREVALENT")),
    ]
    unequal = []
    for first, second in pairs:
        keys = [key for key in FIGURES if key[:2] == first]
        assert keys
        unequal += [key for key in keys if FIGURES[key].value != FIGURES[*second, *key[2:]].value]
    assert unequal == [("Table 5", "two-stage fine-tuning", "R2R val seen", "SPL")]
    for metric in ("Oracle", "Navigator", "Mixed"):
        whole = FIGURES["Table 4", "PREVALENT (L_PA + L_MLM)", "input All", metric]
        assert whole.value == FIGURES["Table 2", "PREVALENT", "CVDN val unseen", metric].value


def test_success_bounds_its_share_by_path_length():
    for table, row, data, metric in FIGURES:
        if metric == "SPL" and (table, row, data, "SR") in FIGURES:
            spl, success = FIGURES[table, row, data, "SPL"], FIGURES[table, row, data, "SR"]
            assert spl.value <= success.value


def test_the_authors_own_runs_stand_beside_the_rows_that_they_are_not():
    assert "66.1 / 63.1" in FIGURES["Table 1", "PREVALENT (M)", "R2R val seen", "SR"].note


def test_every_figure_was_read_in_a_source():
    assert {one.confidence for one in FIGURES.values()} == {"high", "medium"}
    assert {key[0] for key, one in FIGURES.items() if one.confidence == "medium"} == {
        "R2R data",
        "RxR data",
    }
