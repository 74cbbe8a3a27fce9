import pytest
import torch

from optimus.running_means import RunningMeans


def test_means_are_over_the_steps_since_the_last_take():
    means = RunningMeans(("loss", "kl"), "cpu")
    means.add(loss=torch.tensor([1.0, 3.0]), kl=torch.tensor(4.0))
    means.add(loss=torch.tensor([4.0]), kl=torch.tensor(0.0))
    again = RunningMeans(("loss", "kl"), "cpu")
    again.load_state_dict(means.state_dict())
    assert means.take() == again.take() == {"loss": 3.0, "kl": 2.0}
    means.add(loss=torch.tensor([1.0]), kl=torch.tensor(1.0))
    assert means.take() == {"loss": 1.0, "kl": 1.0}


def test_a_name_that_is_left_out_is_an_error():
    with pytest.raises(KeyError, match="kl"):
        RunningMeans(("loss", "kl"), "cpu").add(loss=torch.tensor(1.0))
