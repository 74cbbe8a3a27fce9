"""The paired bootstrap against what is known of means."""

import numpy as np
import pytest

from prevalent.metrics.bootstrap import paired_bootstrap

RNG = np.random.default_rng(0)


def test_the_interval_is_that_of_the_normal_distribution():
    a, b = RNG.normal(0.3, 1.0, 2000), RNG.normal(0.0, 1.0, 2000)
    found = paired_bootstrap(a, b, samples=4000)
    error = (a - b).std(ddof=1) / np.sqrt(len(a))
    assert found.difference == pytest.approx((a - b).mean())
    assert found.low == pytest.approx(found.difference - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(found.difference + 1.96 * error, abs=0.1 * error)
    assert (found.a, found.b) == (pytest.approx(a.mean()), pytest.approx(b.mean()))
    assert found.p == pytest.approx(2 / 4001)


def test_equal_scores_do_not_differ():
    found = paired_bootstrap([0.0, 1.0, 1.0], [0.0, 1.0, 1.0], samples=200)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_what_is_drawn_as_a_whole_widens_the_interval():
    paths = np.repeat(RNG.normal(0.0, 1.0, 200), 3)  # three instructions of a path score alike
    zero, groups = np.zeros(600), np.repeat(np.arange(200), 3).tolist()
    alone = paired_bootstrap(paths, zero, samples=2000)
    whole = paired_bootstrap(paths, zero, groups, samples=2000)
    ratio = (whole.high - whole.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(np.sqrt(3), rel=0.1)


def test_the_parts_of_the_draws_change_nothing(monkeypatch):
    a, b = RNG.random(50), RNG.random(50)
    whole = paired_bootstrap(a, b, samples=500)
    monkeypatch.setattr("prevalent.metrics.bootstrap.AT_ONCE", 50 * 7)
    assert paired_bootstrap(a, b, samples=500) == whole


def test_scores_without_a_partner_are_refused():
    with pytest.raises(ValueError, match="2 and 1 scores make no pairs"):
        paired_bootstrap([1, 0], [1])
