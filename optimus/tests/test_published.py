"""The published figures are whole tables that agree with their sums and a copy made by hand."""

from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from optimus.runtime.published import read_published, read_tables

PUBLISHED = Path(__file__).parents[1] / "published"
FIGURES = {figure.key: figure for figure in read_published(PUBLISHED)}
CORPORA = ("PTB", "Yelp", "Yahoo", "SNLI")


def value(*key: str) -> Decimal:
    return FIGURES[key].value


def test_tables_are_whole():
    counts = {table.label: len(table.figures) for table in read_tables(PUBLISHED)}
    assert counts == {
        "Table 1": 126,
        "Table 4": 15,
        "Table 5": 10,
        "Table 6": 16,
        "Table 7": 32,
        "Tables 8-11": 12,
        "Texar vae_text": 4,
        "Thread 10": 3,
        "Thread 21": 7,
        "Thread 24": 2,
        "Thread 27": 1,
        "Data": 15,
    }
    table = read_tables(PUBLISHED)[0]
    rows = list(dict.fromkeys(figure.row for figure in table.figures))
    assert rows[:2] == ["Optimus lambda=0.05", "Optimus lambda=0.10"]
    assert rows[5:] == [
        *("M. A.", "C. A.", "SA-VAE", "Aggressive", "AE-BP"),
        *("GPT-2 fine-tuned", "LSTM LM", "LSTM-AE"),
    ]


@pytest.mark.parametrize(
    ("key", "printed"),
    [
        (("Table 1", "Optimus lambda=0.05", "PTB", "PPL"), "23.58"),
        (("Table 1", "Optimus lambda=0.50", "Yelp", "MI"), "7.67"),
        (("Table 1", "GPT-2 fine-tuned", "SNLI", "PPL"), "19.68"),
        (("Table 1", "AE-BP", "Yelp", "PPL"), "47.97"),
        (("Table 1", "Aggressive", "Yahoo", "AU"), "19"),
        (("Tables 8-11", "Optimus lambda=0.50", "Yelp", "KL"), "15.09 nats"),
        (("Table 4", "Optimus", "DailyDialog", "BLEU F1"), "0.336"),
        (("Table 5", "StyleFusion", "DailyDialog in the style of Holmes", "Neural"), "0.1050"),
        (("Table 6", "NN-Outlines", "Yelp sentiment", "self-BLEU"), "0.347"),
        (("Table 7", "Optimus (VAE), feature-based", "Average", "score"), "0.607 ± 0.013"),
        (("Texar vae_text", "LSTM VAE", "PTB", "PPL"), "104.61"),
    ],
)
def test_figures_checked_by_hand(key, printed):
    assert str(FIGURES[key]) == printed


def test_no_range_of_unnamed_models_is_left():
    assert not [key for key in FIGURES if key[1].startswith("Small VAEs")]


def test_the_bound_is_the_sum_of_its_parts():
    for _, row, data, metric in FIGURES:
        if metric == "-ELBO":
            parts = [value("Tables 8-11", row, data, part) for part in ("KL", "Rec")]
            assert value("Tables 8-11", row, data, metric) == sum(parts)


def test_averages_are_those_of_the_tasks():
    for row in ("BERT, fine-tuning", "Optimus (VAE), fine-tuning"):
        tasks = [one.value for one in FIGURES.values() if one.row == row and one.data != "Average"]
        assert len(tasks) == 9
        average = float(value("Table 7", row, "Average", "score"))
        assert average == pytest.approx(float(sum(tasks)) / 9, abs=0.002)


def test_f1_and_g_scores_follow_from_their_parts():
    for table, row in {key[:2] for key in FIGURES if key[0] in ("Table 4", "Table 5")}:
        scores = {
            key[3]: float(one.value) for key, one in FIGURES.items() if key[:2] == (table, row)
        }
        recall, precision = scores["BLEU recall"], scores["BLEU precision"]
        assert scores["BLEU F1"] == pytest.approx(
            2 * recall * precision / (recall + precision), abs=0.001
        )
    for row in ("Control-Gen", "ARAE", "NN-Outlines", "Optimus"):
        scores = {
            key[3]: float(one.value) for key, one in FIGURES.items() if key[:2] == ("Table 6", row)
        }
        g_score = (scores["Accuracy"] * scores["BLEU"]) ** 0.5
        assert scores["G-score"] == pytest.approx(g_score, abs=0.0015)


def test_only_what_no_source_has_is_of_low_confidence():
    low = [one for one in FIGURES.values() if one.confidence == "low"]
    assert {one.key[:3] for one in low} == {("Tables 8-11", "Optimus lambda=0.05", "PTB")}
    assert Counter(one.confidence for one in FIGURES.values())["high"] > 200
