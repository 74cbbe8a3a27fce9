import math

import numpy as np
import pytest

from optimus.metrics.classification import NgramJudge, spread, task_scores


def test_scores_by_hand():
    predictions, labels = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0])
    assert task_scores("accuracy", predictions, labels)["score"] == 0.75
    scores = task_scores("accuracy-f1", predictions, labels)
    assert scores["f1"] == pytest.approx(2 / 3)
    assert scores["score"] == pytest.approx((0.75 + 2 / 3) / 2)
    # (tp tn - fp fn) / sqrt(...) with tp 1, tn 2, fp 1, fn 0
    assert task_scores("matthews", predictions, labels)["score"] == pytest.approx(2 / math.sqrt(12))


def test_correlations_of_ranks_and_values():
    scores = task_scores("correlation", np.array([1.0, 2.0, 9.0]), np.array([1.0, 2.0, 3.0]))
    assert scores["spearman"] == pytest.approx(1)
    assert 0.9 < scores["pearson"] < 1
    constant = task_scores("correlation", np.ones(3), np.array([1.0, 2.0, 3.0]))
    assert constant["score"] == 0
    with pytest.raises(ValueError, match="2 predictions"):
        task_scores("accuracy", np.ones(2), np.ones(3))


def test_spread_is_mean_and_sample_deviation():
    found = spread([1.0, 3.0])
    assert found.mean == 2
    assert found.deviation == pytest.approx(math.sqrt(2))
    assert str(found) == "2.000 ± 1.414"
    assert str(spread([0.5])) == "0.500"
    with pytest.raises(ValueError, match="no score"):
        spread([])


def test_the_judge_tells_classes_by_their_words():
    judge = NgramJudge(["good food", "great place", "bad food", "awful place"], [1, 1, 0, 0])
    assert judge.predict(["a good place", "bad and awful"]).tolist() == [1, 0]
    assert judge.probabilities(["good"]).sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="two classes"):
        NgramJudge(["a"], [0])
