"""Adam's moments by name."""

from __future__ import annotations

import pytest
import torch
from ugatit_cases import tiny_ugatit

from fqgan.ugatit import ScheduleConfig, StepConfig, UgatitStep, build_networks
from fqgan.ugatit.translation import load_moments


def moments_for(networks):
    moments = {"generator_updates": torch.tensor(5.0), "discriminator_updates": torch.tensor(7.0)}
    for name, parameter in networks.named_parameters():
        moments[f"{name}.exp_avg"] = torch.randn_like(parameter)
        moments[f"{name}.exp_avg_sq"] = torch.rand_like(parameter)
    return moments


def test_every_parameter_gets_its_moments():
    networks = build_networks(tiny_ugatit())
    step = UgatitStep(networks, StepConfig(lr=3e-4), ScheduleConfig())
    moments = moments_for(networks)
    load_moments(moments, step)
    found = {}
    for optimizer in (step.generator_optimizer, *step.judge_optimizers):
        found |= optimizer.state
        assert optimizer.param_groups[0]["lr"] == 3e-4
    for name, parameter in networks.named_parameters():
        state = found[parameter]
        assert torch.equal(state["exp_avg"], moments[f"{name}.exp_avg"])
        assert torch.equal(state["exp_avg_sq"], moments[f"{name}.exp_avg_sq"])
        assert float(state["step"]) == (7.0 if name.startswith("judge") else 5.0)


def test_moments_of_another_network_are_refused():
    networks = build_networks(tiny_ugatit())
    step = UgatitStep(networks, StepConfig(), ScheduleConfig())
    moments = moments_for(networks)
    moments["judge_b.local_branch.logit.bias.exp_avg"] = torch.zeros(2)
    with pytest.raises(ValueError, match=r"judge_b\.local_branch\.logit\.bias do not fit"):
        load_moments(moments, step)
