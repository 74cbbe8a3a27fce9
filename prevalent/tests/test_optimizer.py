"""Gradient steps over several modules."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from prevalent.optimizer import (
    OPTIMIZERS,
    AuthorsAdamW,
    OptimizerConfig,
    Updater,
    linear_schedule,
    parameter_groups,
)
from prevalent.released.checkpoints import load_model
from prevalent.runtime.precision import check_weights

RELATIVE = 1e-4


@pytest.mark.golden
def test_the_recorded_training_steps_are_reproduced(golden):
    path = golden / "models/dicadd_train.json"
    if not path.exists():
        pytest.skip("no dicadd_train case")
    case = json.loads(path.read_text())
    arrays = np.load(golden / "models/dicadd_forward.npz")
    names = ("input_ids", "attention_mask", "img", "labels", "action")
    inputs = [torch.as_tensor(arrays[name]) for name in names]
    model = load_model(golden / "models/dicadd_tiny").train()
    groups = parameter_groups(model, case["weight_decay"])
    by_id = {id(value): name for name, value in model.named_parameters()}
    decayed = [by_id[id(value)] for value in groups[0]["params"]]
    assert sorted(decayed) == sorted(case["decay_names"])

    optimizer = AuthorsAdamW(groups, lr=1.0)
    for step in case["steps"]:
        for group in optimizer.param_groups:
            group["lr"] = step["lr"]
        optimizer.zero_grad(set_to_none=True)
        loss = model(*inputs).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        assert loss.item() == pytest.approx(step["loss_before"], rel=1e-5)
        assert float(norm) == pytest.approx(step["grad_norm_before_clip"], rel=RELATIVE)

    state = model.state_dict()
    for name, (total, absolute) in case["final_param_[sum,abs_sum]"].items():
        value = state[name].double()
        if not name.endswith("key.bias"):  # analytically zero gradient: rounding noise
            assert float(value.abs().sum()) == pytest.approx(absolute, rel=RELATIVE)
            assert float(value.sum()) == pytest.approx(total, rel=RELATIVE, abs=1e-4 * absolute)
    after = golden / "models/dicadd_after5.npz"
    if after.exists():
        arrays = np.load(after)
        for name in arrays.files:
            if not name.endswith("key.bias"):
                expected = torch.as_tensor(arrays[name])
                torch.testing.assert_close(state[name], expected, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.golden
def test_the_recorded_learning_rates_are_a_linear_schedule(golden):
    path = golden / "models/dicadd_train.json"
    if not path.exists():
        pytest.skip("no dicadd_train case")
    rates = [step["lr"] for step in json.loads(path.read_text())["steps"]]
    warmup = rates.index(max(rates))
    fall = rates[warmup] - rates[warmup + 1]
    total = warmup + round(rates[warmup] / fall)
    ours = [max(rates) * linear_schedule(i, total, warmup) for i in range(len(rates))]
    assert ours == pytest.approx(rates)


def test_an_update_agrees_with_the_formula_written_out():
    weight = torch.nn.Parameter(torch.tensor([0.5, -2.0], dtype=torch.float64))
    optimizer = AuthorsAdamW([weight], lr=0.1, eps=1e-2, weight_decay=0.3)
    expected, mean, square = [0.5, -2.0], [0.0, 0.0], [0.0, 0.0]
    for step in range(1, 4):
        weight.grad = torch.tensor([0.1, -0.4], dtype=torch.float64) * step
        for i, gradient in enumerate(weight.grad.tolist()):
            mean[i] = 0.9 * mean[i] + 0.1 * gradient
            square[i] = 0.999 * square[i] + 0.001 * gradient**2
            rate = 0.1 * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            expected[i] -= rate * mean[i] / (math.sqrt(square[i]) + 1e-2)
            expected[i] *= 1 - 0.1 * 0.3
        optimizer.step()
    assert weight.tolist() == pytest.approx(expected, rel=1e-9)


def test_a_restored_optimizer_continues_exactly():
    def run(steps, state=None, weights=None):
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        optimizer = AuthorsAdamW(parameter_groups(layer, 0.1), lr=0.01)
        if state is not None:
            layer.load_state_dict(weights)
            optimizer.load_state_dict(state)
        for step in steps:
            layer.zero_grad()
            layer(torch.full((1, 3), float(step))).square().sum().backward()
            optimizer.step()
        return layer.state_dict(), optimizer.state_dict()

    whole, _ = run(range(6))
    weights, state = run(range(3))
    halves, _ = run(range(3, 6), state, weights)
    for name in whole:
        torch.testing.assert_close(halves[name], whole[name], rtol=0, atol=0)


def test_the_rate_rises_and_falls_linearly():
    assert [linear_schedule(i, 6, 2) for i in range(7)] == [0, 0.5, 1, 0.75, 0.5, 0.25, 0]
    assert linear_schedule(0, 10) == 1


def test_a_step_that_overflowed_in_fp16_leaves_no_trace():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = AuthorsAdamW([weight], lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    for gradient, moved in ((float("inf"), False), (1.0, True)):
        optimizer.zero_grad()
        scaler.scale((weight * gradient).sum()).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        assert (weight != 1).all().item() == moved
    assert optimizer.param_groups[0]["steps"] == 1


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_named(value):
    parts = {"encoder": nn.Linear(2, 2), "decoder": nn.Linear(2, 2), "progress": object()}
    check_weights(3, parts)
    with torch.no_grad():
        parts["decoder"].bias[1] = value
    with pytest.raises(FloatingPointError, match="weight of decoder is not finite at step 3"):
        check_weights(3, parts)


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


def test_adam_is_fused_on_a_gpu_and_takes_the_same_steps():
    found = []
    for device in ("cpu", "cuda"):  # weights of a CPU have the fused kernel too
        torch.manual_seed(0)
        module = torch.nn.Linear(4, 3)
        updater = Updater({"one": module}, OptimizerConfig("adam", lr=0.1), ("one",), device=device)
        assert bool(updater.optimizers["one"].defaults["fused"]) == (device == "cuda")
        for _ in range(3):
            updater.backward(module(torch.ones(2, 4)).square().sum())
            updater.step()
        found.append(list(module.parameters()))
    torch.testing.assert_close(*found)
