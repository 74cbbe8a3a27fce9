"""The moving average of a network."""

from __future__ import annotations

import pytest
import torch
from factories import run_ranks
from torch import nn

from fqgan.gan import (
    Latents,
    ModelAverage,
    average_gradients,
    average_in_place,
    check_weights,
    require_grad,
    send_from_first_rank,
)
from fqgan.runtime import distributed


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


def draws(latents, count=3):
    return [latents(4) for _ in range(count)]


def test_two_processes_draw_what_one_draws_that_accumulates_twice(monkeypatch):
    alone = draws(Latents(5, 3, seed=1), 4)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        for number, mine in enumerate(draws(Latents(5, 3, seed=1), 2)):
            torch.testing.assert_close(mine, alone[2 * number + rank], rtol=0, atol=0)


def test_a_restored_stream_goes_on_where_it_was():
    latents = Latents(5, 3, seed=1)
    latents(4)
    state, expected = latents.state_dict(), latents(4)
    other = Latents(5, 3, seed=9)
    other.load_state_dict({name: value.clone() for name, value in state.items()})
    torch.testing.assert_close(other(4), expected, rtol=0, atol=0)


def test_the_standard_deviation_scales_the_noise_alone():
    one, two = Latents(5, 3, seed=1)(8), Latents(5, 3, seed=1, std=0.5)(8)
    torch.testing.assert_close(two.z, one.z / 2)
    assert torch.equal(two.labels, one.labels)


def test_labels_cover_all_classes():
    assert set(Latents(2, 3)(200).labels.tolist()) == {0, 1, 2}


def test_one_process_changes_nothing():
    network = torch.nn.Linear(2, 2)
    network(torch.ones(1, 2)).sum().backward()
    before = network.weight.grad.clone()
    average_gradients(network.parameters())
    send_from_first_rank(network)
    assert torch.equal(network.weight.grad, before)
    require_grad(network, False)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def compare(rank, store):
    network = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(network.weight, float(rank))
    send_from_first_rank(network)
    assert torch.equal(network.weight, torch.zeros(2, 2))
    network.weight.grad = torch.full((2, 2), float(rank))
    average_gradients(network.parameters())
    assert torch.equal(network.weight.grad, torch.full((2, 2), 0.5))
    number = torch.tensor([2.0 * rank])
    average_in_place([number])
    assert float(number) == 1.0


def test_two_ranks_start_equal_and_average(tmp_path):
    run_ranks(compare, str(tmp_path / "store"))


def test_a_weight_that_is_not_finite_is_named_with_its_network():
    good, bad = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    check_weights(7, G=good, D=bad)
    bad.weight.data[0, 0] = float("inf")
    with pytest.raises(FloatingPointError, match="a weight of D is not finite at step 7"):
        check_weights(7, G=good, D=bad)
