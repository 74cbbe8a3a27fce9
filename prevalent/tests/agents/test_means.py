"""Running means of losses."""

import torch

from prevalent.curves import Means


def test_means_count_only_the_steps_in_which_a_loss_occurred():
    means = Means(torch.device("cpu"), ("loss", "critic"))
    means.add({"loss": torch.tensor(1.0), "critic": torch.tensor(5.0)})
    means.add({"loss": torch.tensor(3.0), "unknown": torch.tensor(9.0)})
    assert means.take() == {"loss": 2.0, "critic": 5.0}
    assert means.take() == {}


def test_means_go_on_from_their_state():
    one, two = (Means(torch.device("cpu"), ("loss",)) for _ in range(2))
    one.add({"loss": torch.tensor(1.0)})
    two.load_state_dict(one.state_dict())
    two.add({"loss": torch.tensor(2.0)})
    assert two.take() == {"loss": 1.5}
