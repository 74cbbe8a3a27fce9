""""""

from __future__ import annotations

import pytest
import torch
from factories import tiny_model

from optimus.optimizer import OriginalAdamW, RunningMeans, norm_to_check, parameter_groups


def test_norms_and_biases_are_never_decayed_unless_asked_for():
    model = tiny_model()
    for compat in (False, True):
        decayed, spared = parameter_groups(model, 0.1, compat)
        assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
        names = {id(p): name for name, p in model.named_parameters()}
        found = {names[id(p)] for p in decayed["params"]}
        assert len(decayed["params"]) + len(spared["params"]) == len(names)
        assert not any("bias" in name or "LayerNorm" in name for name in found)
        assert any("ln_1.weight" in name for name in found) == compat


def test_the_original_adamw_stays_near_the_one_of_torch():
    runs = []
    for kind in (OriginalAdamW, torch.optim.AdamW):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(6, 6))
        optimizer = kind([weight], lr=1e-2, weight_decay=0.01)
        for _ in range(10):
            optimizer.zero_grad()
            (weight @ torch.ones(6)).square().sum().backward()
            optimizer.step()
        runs.append(weight.detach())
    torch.testing.assert_close(*runs, rtol=1e-3, atol=1e-4)


def test_its_state_is_saved_and_restored():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = OriginalAdamW([weight])
    weight.sum().backward()
    optimizer.step()
    other = OriginalAdamW([weight])
    other.load_state_dict(optimizer.state_dict())
    assert other.state[weight]["step"] == 1
    assert torch.equal(other.state[weight]["exp_avg"], optimizer.state[weight]["exp_avg"])


def test_an_infinite_gradient_is_harmless_under_loss_scaling_only():
    norm = torch.tensor(torch.inf)
    assert norm_to_check(norm, "fp16") is None
    assert norm_to_check(norm, "apex-O1") is None
    assert norm_to_check(norm, "fp32") is norm
    assert norm_to_check(norm, "bf16") is norm


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
