"""Deferred weight gradients are those of autograd, over any number of steps and passes."""

import torch
from torch import nn

from prevalent.models.kernels import DeferredLinear, DeferredLSTMCell


def walk(linear, cell, inputs, steps=4):
    """A recurrence that uses both modules at every step; returns a scalar."""
    state = (torch.zeros(len(inputs), 3), torch.ones(len(inputs), 3))
    for _ in range(steps):
        state = cell(linear(inputs) + linear(inputs[:, None]).sum(dim=1), state)
    return state[0].square().sum() + state[1].sum()


def twins():
    torch.manual_seed(0)
    plain = nn.ModuleList([nn.Linear(5, 4), nn.LSTMCell(4, 3)])
    ours = nn.ModuleList([DeferredLinear(5, 4), DeferredLSTMCell(4, 3)])
    ours.load_state_dict(plain.state_dict())
    return plain, ours


def assert_same_gradients(ours, plain):
    for (name, a), b in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_gradients_agree_with_autograd_and_add_up_over_passes():
    plain, ours = twins()
    inputs = torch.randn(6, 5, requires_grad=True)
    others = inputs.detach().clone().requires_grad_()
    for _ in range(2):
        loss, other = walk(*ours, inputs), walk(*plain, others)
        torch.testing.assert_close(loss, other)
        loss.backward()
        other.backward()
        assert_same_gradients(ours, plain)
    torch.testing.assert_close(inputs.grad, others.grad)


def test_frozen_weights_and_inference_stay_as_they_are():
    plain, ours = twins()
    inputs = torch.randn(2, 5)
    ours[0].weight.requires_grad_(False)
    walk(*ours, inputs).backward()
    assert ours[0].weight.grad is None
    assert ours[0].bias.grad is not None
    with torch.no_grad():
        torch.testing.assert_close(walk(*ours, inputs), walk(*plain, inputs))


def test_autocast_goes_the_ordinary_way():
    plain, ours = twins()
    inputs = torch.randn(3, 5)
    for modules in (plain, ours):
        with torch.autocast("cpu", torch.bfloat16):
            loss = modules[0](inputs).float().square().sum()
        loss.backward()
    assert torch.equal(ours[0].weight.grad, plain[0].weight.grad)
