"""Inception score on hand-worked and recorded probabilities."""

import numpy as np
import pytest
import torch

from fqgan.metrics.distances import inception_score


def test_certain_and_even_predictions_score_the_number_of_classes():
    assert inception_score(torch.eye(5).repeat(4, 1), splits=2).mean == pytest.approx(5)


def test_equal_predictions_score_one():
    score = inception_score(torch.full((20, 5), 0.2), splits=4)
    assert score.mean == pytest.approx(1)
    assert score.std == pytest.approx(0, abs=1e-9)


def test_a_hand_worked_score():
    # Marginal (.5, .5); each row: KL = .75 log 1.5 + .25 log .5.
    score = inception_score(torch.tensor([[0.75, 0.25], [0.25, 0.75]]), splits=1)
    assert score.mean == pytest.approx(1.5**0.75 * 0.5**0.25)


def test_the_remainder_is_dropped_and_too_few_images_are_refused():
    probabilities = torch.rand(13, 4).softmax(1)
    assert inception_score(probabilities, 3) == inception_score(probabilities[:12], 3)
    with pytest.raises(ValueError, match="13 images cannot be cut into 20 splits"):
        inception_score(probabilities, 20)


@pytest.mark.golden
def test_scores_agree_with_the_recorded_ones(golden):
    found = 0
    path = golden / "biggan" / "misc" / "metrics.npz"
    if path.exists():
        with np.load(path) as case:
            probabilities = torch.from_numpy(case["probs"])
            softmax = torch.from_numpy(case["logits"]).softmax(1)
            torch.testing.assert_close(softmax, probabilities)
            for name in case.files:
                if name.startswith("is_"):
                    score = inception_score(probabilities, int(name.removeprefix("is_")))
                    np.testing.assert_allclose(score, case[name], rtol=1e-5, atol=1e-6)
                    found += 1
    path = golden / "stylegan" / "metrics.npz"
    if path.exists():
        with np.load(path) as case:
            score = inception_score(torch.from_numpy(case["probs"]))
            np.testing.assert_allclose(score, (case["is_mean"], case["is_std"]), rtol=1e-5)
            found += 1
    if not found:
        pytest.skip("no recorded Inception scores")
