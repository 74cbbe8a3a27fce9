"""The moving average of a network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fqgan.gan import ModelAverage


def test_parameters_and_buffers_follow_by_the_decay():
    model = nn.BatchNorm1d(3)
    average = ModelAverage(model, decay=0.75)
    with torch.no_grad():
        model.weight.fill_(5.0)
        model.running_mean.fill_(4.0)
        model.num_batches_tracked.fill_(7)
    average.update(model, step=1)
    assert average.module.weight.tolist() == [2.0] * 3  # 0.75 * 1 + 0.25 * 5
    assert average.module.running_mean.tolist() == [1.0] * 3
    assert average.module.num_batches_tracked == 7


def test_buffers_may_be_taken_as_they_are():
    model = nn.BatchNorm1d(3)
    average = ModelAverage(model, decay=0.75, average_buffers=False)
    with torch.no_grad():
        model.weight.fill_(5.0)
        model.running_mean.fill_(4.0)
    average.update(model, step=1)
    assert average.module.weight.tolist() == [2.0] * 3
    assert average.module.running_mean.tolist() == [4.0] * 3


def test_before_the_start_the_copy_equals_the_model():
    model = nn.Linear(2, 2)
    average = ModelAverage(model, decay=0.9, start=3)
    for step in (1, 2):
        with torch.no_grad():
            model.weight.add_(1.0)
        average.update(model, step)
        assert torch.equal(average.module.weight, model.weight)
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update(model, 3)
    assert not torch.equal(average.module.weight, model.weight)


def test_the_average_needs_no_gradient_and_is_in_eval_mode():
    average = ModelAverage(nn.Linear(2, 2))
    assert not any(p.requires_grad for p in average.module.parameters())
    assert not average.module.training


def test_its_state_has_the_keys_of_the_model_and_restores_it():
    model = nn.Linear(2, 2)
    average, other = ModelAverage(model), ModelAverage(nn.Linear(2, 2))
    assert list(average.state_dict()) == list(model.state_dict())
    other.load_state_dict(average.state_dict())
    assert torch.equal(other.module.weight, model.weight)


def test_a_decay_above_one_is_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        ModelAverage(nn.Linear(1, 1), decay=1.5)
