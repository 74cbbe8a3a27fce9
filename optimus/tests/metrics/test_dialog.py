import json
import math

import numpy as np
import pytest

from optimus.metrics.dialog import (
    Turn,
    average_similarity,
    extrema_similarity,
    greedy_similarity,
    group_turns,
    ngram_entropy,
    read_generated,
    read_glove,
    score_turns,
    with_references,
)

NAMES = {
    "BLEU_R": "bleu_recall",
    "BLEU_P": "bleu_precision",
    "BLEU_F1": "bleu_f1",
    "BOW_A": "bow_average",
    "BOW_E": "bow_extrema",
    "BOW_G": "bow_greedy",
    "intra_dist1": "intra_distinct_1",
    "intra_dist2": "intra_distinct_2",
    "inter_dist1": "inter_distinct_1",
    "inter_dist2": "inter_distinct_2",
    "avg_L": "length",
}
EXACT = 1e-9


@pytest.mark.golden
@pytest.mark.parametrize("kind", ["single", "multi"])
def test_scores_agree_with_the_authors(golden_kind, kind):
    folder = golden_kind("dialog_metrics", "out.json")
    expected = json.loads((folder / "out.json").read_text())
    if kind not in expected:
        pytest.skip(f"{folder} has no {kind} case")
    vectors = read_glove(next(folder.glob("glove*.txt")))
    turns = read_generated(folder / "generated.tsv")
    if kind == "multi":
        turns, _ = with_references(turns, folder / "multi_ref.tsv")
    scores = score_turns(turns, vectors)
    for theirs, value in expected[kind].items():
        assert scores[NAMES[theirs]] == pytest.approx(value, abs=EXACT), theirs


def test_bags_by_hand():
    one, other = np.array([[1.0, 0.0], [0.0, -2.0]]), np.array([[1.0, 0.0]])
    assert average_similarity(one, other) == pytest.approx(1 / math.sqrt(5))
    assert extrema_similarity(one, other) == pytest.approx(1 / math.sqrt(5))
    assert greedy_similarity(one, other) == pytest.approx((1 + 0.5) / 2)
    assert greedy_similarity(one, other, length=2) == pytest.approx((0.5 + 0.5) / 2)
    assert average_similarity(one, np.zeros((1, 2))) == 0


def test_the_reference_itself_scores_best():
    text = "a good long answer ."
    scores = score_turns([Turn("hello", (text,), (text, text))])
    assert scores["bleu_precision"] == pytest.approx(scores["bleu_recall"])
    assert scores["bleu_recall"] > 0.99
    assert scores["inter_distinct_1"] == pytest.approx(0.5, abs=1e-3)
    assert "bow_average" not in scores
    with pytest.raises(ValueError, match="no dialog turn"):
        score_turns([])


def test_short_and_empty_responses_score_zero():
    assert score_turns([Turn("c", ("a b c d",), ("", "x"))])["bleu_recall"] == 0


def test_rows_are_grouped_by_context():
    rows = [("a", "r", "1"), ("a", "r", "2"), ("b", "s", "3"), ("a", "t", "4")]
    assert [turn.responses for turn in group_turns(rows)] == [("1", "2"), ("3",), ("4",)]


def test_entropy_counts_ngrams():
    assert ngram_entropy(["a b", "a b"], 2) == 0
    assert ngram_entropy(["a b", "b a"], 2) == pytest.approx(math.log(2))
    assert ngram_entropy([], 4) == 0


def test_wrong_files_are_named_in_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="--glove"):
        read_glove(tmp_path / "none")
    path = tmp_path / "glove.txt"
    path.write_text("a 1 2\nb 1\n")
    with pytest.raises(ValueError, match=r"line 2: there are 1 numbers, 2 are expected"):
        read_glove(path)
    with pytest.raises(ValueError, match="2 numbers, 200"):
        read_glove(path, width=200)
    path.write_text("")
    for width in (None, 200):
        with pytest.raises(ValueError, match="holds no word vectors"):
            read_glove(path, width=width)
    with pytest.raises(ValueError, match="holds no `context TAB reference TAB response` line"):
        read_generated(path)
    path.write_text("a\tb\n")
    with pytest.raises(ValueError, match="line 1"):
        read_generated(path)
    turns = [Turn(f"context {chr(97 + i)}", ("r",), ("h",)) for i in range(7)]
    path.write_text("context a\tother\n")
    with pytest.raises(ValueError, match="6 of 7 contexts"):
        with_references(turns, path)
    found, missing = with_references(turns[:3], path)
    assert (found[0].references, missing) == (("other",), 2)
