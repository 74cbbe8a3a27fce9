"""Running means count what occurs, and their state continues them."""

import math

import pytest
import torch

from prevalent.runtime.means import RunningMeans


def test_the_mean_is_over_the_steps_in_which_a_name_occurs():
    means = RunningMeans(("loss", "reward"), "cpu")
    means.add({"loss": torch.tensor(1.0), "reward": torch.tensor(4.0)})
    means.add({"loss": torch.tensor([2.0, 4.0])})
    means.share()
    assert means.take() == {"loss": 2.0, "reward": 4.0}
    assert means.take() == {}


def test_a_restored_state_goes_on():
    means, other = (RunningMeans(("loss",), "cpu") for _ in range(2))
    means.add({"loss": torch.tensor(1.0)})
    other.load_state_dict(means.state_dict())
    other.add({"loss": torch.tensor(2.0)})
    assert other.take() == {"loss": 1.5}


def test_the_state_of_the_first_version_is_read():
    means = RunningMeans(("loss", "kl"), "cpu")
    means.load_state_dict({"sums": torch.tensor([6.0, 3.0, 2.0])})
    assert means.take() == {"loss": 3.0, "kl": 1.5}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_named(value):
    means = RunningMeans(("loss", "kl"), "cpu")
    means.add({"loss": torch.tensor(1.0), "kl": torch.tensor(value)})
    with pytest.raises(FloatingPointError, match="kl is not finite at step 7"):
        means.check(7)
