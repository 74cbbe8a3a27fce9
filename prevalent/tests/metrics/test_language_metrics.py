"""BLEU agrees with the recorded scorer and with a number worked by hand."""

import gzip
import json
import math

import pytest

from prevalent.metrics.language import corpus_bleu


def test_bleu_by_hand():
    # unigrams 3/4, bigrams 2/3; reference lengths 3 (shortest) and 4 (closest)
    references = [[["a", "b", "c"], ["a", "b", "c", "x"]]]
    candidate = [["a", "b", "c", "d"]]
    score = corpus_bleu(references, candidate, max_order=2)
    assert score.precisions == pytest.approx([3 / 4, 2 / 3])
    assert score.bleu == pytest.approx(math.sqrt(3 / 4 * 2 / 3))
    assert score.reference_length == 3
    assert corpus_bleu(references, candidate, reference_length="closest").reference_length == 4


def test_a_short_candidate_pays_the_brevity_penalty():
    score = corpus_bleu([[["a", "b", "c", "d"]]], [["a", "b"]], max_order=1)
    assert score.bleu == pytest.approx(math.exp(1 - 4 / 2))


def test_unequal_lists_are_refused():
    with pytest.raises(ValueError, match="2 candidates need as many"):
        corpus_bleu([[["a"]]], [["a"], ["b"]])


@pytest.mark.golden
def test_recorded_bleu_agrees(golden):
    path = golden / "metrics" / "r2r_metrics.json.gz"
    if not path.exists():
        pytest.skip("this golden folder has no metrics/r2r_metrics.json.gz")
    cases = json.loads(gzip.decompress(path.read_bytes()))["bleu"]
    for case in cases:
        for key, smooth in (("bleu,precisions,bp,ratio,len,reflen", False), ("smooth", True)):
            bleu, precisions, *rest = case[key]
            score = corpus_bleu(case["refs"], case["cands"], smooth=smooth)
            assert score.bleu == pytest.approx(bleu, abs=1e-9)
            assert score.precisions == pytest.approx(precisions, abs=1e-9)
            assert list(score[2:]) == pytest.approx(rest, abs=1e-9)
