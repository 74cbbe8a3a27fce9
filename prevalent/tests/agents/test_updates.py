"""Gradient steps over several modules."""

import pytest
import torch
from torch import nn

from prevalent.optimizer import OPTIMIZERS, OptimizerConfig, Updater


def make(kind="sgd", **options):
    torch.manual_seed(0)
    modules = {"one": nn.Linear(3, 2), "two": nn.Linear(3, 2)}
    return Updater(modules, OptimizerConfig(kind, **options), clipped=("one",))


def loss_of(updater, scale=1.0):
    return scale * sum(m(torch.ones(4, 3)).square().sum() for m in updater.modules.values())


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_every_rule_lowers_a_loss(kind):
    updater = make(kind, lr=1e-3)
    before = loss_of(updater).item()
    for _ in range(5):
        updater.backward(loss_of(updater))
        updater.step()
    assert loss_of(updater).item() < before


def test_gradients_of_several_losses_add_up():
    one, two = make(), make()
    one.backward(loss_of(one))
    two.backward(loss_of(two, 0.25))
    two.backward(loss_of(two, 0.75))
    one.step()
    two.step()
    for a, b in zip(one.modules["two"].parameters(), two.modules["two"].parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_only_named_modules_are_clipped():
    updater = make(lr=1.0, max_norm=0.5)
    before = {name: [p.clone() for p in m.parameters()] for name, m in updater.modules.items()}
    updater.backward(loss_of(updater))
    norms = updater.step()
    assert set(norms) == {"one"}
    moved = {
        name: sum((a - b).square().sum() for a, b in zip(m.parameters(), before[name], strict=True))
        for name, m in updater.modules.items()
    }
    assert moved["one"].sqrt().item() == pytest.approx(0.5, rel=1e-4)
    assert moved["two"].sqrt().item() > 0.5


def test_weight_decay_and_learning_rate_reach_the_optimizers():
    updater = make("rms", lr=0.1, weight_decay=0.2)
    updater.set_lr(0.05)
    for optimizer in updater.optimizers.values():
        assert optimizer.param_groups[0]["lr"] == 0.05
        assert optimizer.param_groups[0]["weight_decay"] == 0.2
    parts = updater.parts()
    assert set(parts) == {"one", "two", "one_optimizer", "two_optimizer", "precision"}
