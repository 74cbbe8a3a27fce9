"""Four networks in one."""

from __future__ import annotations

import torch
from ugatit_cases import tiny_ugatit

from fqgan.ugatit import build_networks


def test_one_seed_gives_one_set_of_networks():
    torch.manual_seed(3)
    first = build_networks(tiny_ugatit()).state_dict()
    torch.manual_seed(3)
    second = build_networks(tiny_ugatit()).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert {name.partition(".")[0] for name in first} == {"a_to_b", "b_to_a", "judge_a", "judge_b"}


def test_weights_begin_normal_and_biases_zero():
    networks = build_networks(tiny_ugatit())
    kernel = networks.a_to_b.style[0].weight.detach()
    assert abs(float(kernel.std()) - 0.02) < 0.002
    assert float(networks.judge_a.global_branch.convs[0].bias.detach().abs().sum()) == 0.0
    assert networks.generators() == (networks.a_to_b, networks.b_to_a)
    assert networks.discriminators() == (networks.judge_a, networks.judge_b)
