import json
import random
import re

import pytest
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from optimus.metrics.text import bleu, distinct, self_bleu, words_of

TOLERANCE = 1e-9  # sums of logarithms in another order


def texts(count, seed):
    generator = random.Random(seed)
    words = ["the", "a", "dog", "cat", "sees", "runs", ".", ","]
    return [" ".join(generator.choices(words, k=generator.randint(1, 12))) for _ in range(count)]


def by_nltk(hypothesis, references, n):
    method = SmoothingFunction().method1
    rows = [words_of(text) for text in references]
    return sentence_bleu(rows, words_of(hypothesis), [1 / n] * n, smoothing_function=method)


@pytest.mark.golden
def test_the_authors_scores_are_reproduced(golden_kind):
    folder = golden_kind("bleu")
    real, fake = ((folder / f"{n}.txt").read_text().splitlines() for n in ("real", "fake"))
    out = json.loads((folder / "out.json").read_text())
    walked = 0
    for key, value in out.items():
        if match := re.fullmatch(r"bleu(\d+)_all", key):
            ours = bleu(real, fake, int(match[1]))
        elif match := re.fullmatch(r"bleu(\d+)", key):
            num_real, num_fake = map(int, re.findall(r"num_\w+?_sentences=(\d+)", out["notes"]))
            # their references are the first lines, but they score two generated lines more
            ours = bleu(real[:num_real], fake[: num_fake + 2], int(match[1]))
        elif match := re.fullmatch(r"self_bleu(\d+)(?:_first(\d+))?", key):
            ours = self_bleu(fake[: int(match[2] or len(fake))], int(match[1]))
        else:
            assert key == "notes"
            continue
        assert ours == pytest.approx(value, abs=TOLERANCE), key
        walked += 1
    assert walked


@pytest.mark.parametrize("n", [1, 2, 4, 5])
def test_bleu_agrees_with_nltk(n):
    references, hypotheses = texts(30, 1), texts(20, 2)
    expected = sum(by_nltk(text, references, n) for text in hypotheses) / len(hypotheses)
    assert bleu(references, hypotheses, n) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize("repeat", [1, 2])
def test_self_bleu_agrees_with_nltk(n, repeat):
    rows = texts(25, 3) * repeat
    expected = [by_nltk(row, rows[:i] + rows[i + 1 :], n) for i, row in enumerate(rows)]
    assert self_bleu(rows, n) == pytest.approx(sum(expected) / len(rows), abs=TOLERANCE)


def test_equal_sentences_score_one_and_strange_ones_zero():
    assert bleu(["the dog sees the cat ."], ["the dog sees the cat ."]) == pytest.approx(1)
    assert bleu(["the dog"], ["other words"]) == 0
    assert bleu(["the dog"], [""]) == 0


def test_distinct_is_the_share_of_different_grams():
    assert distinct(["a b a b", "a b"], 1) == pytest.approx(2 / 6)
    assert distinct(["a b a b", "a b"], 2) == pytest.approx(2 / 4)
    assert distinct(["a"], 2) == 0


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="at least 1"):
        bleu(["a"], ["a"], 0)
    with pytest.raises(ValueError, match="at least one sentence"):
        bleu([], ["a"])
    with pytest.raises(ValueError, match="at least one sentence"):
        self_bleu(["a"])
