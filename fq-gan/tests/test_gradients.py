"""Gradients and weights over the ranks."""

from __future__ import annotations

import pytest
import torch
from factories import run_ranks

from fqgan.gan import (
    average_gradients,
    average_in_place,
    check_weights,
    require_grad,
    send_from_first_rank,
)


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
