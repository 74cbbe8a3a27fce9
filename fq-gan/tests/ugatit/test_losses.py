"""Losses against recorded ones and against formulas."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from factories import Recorded, relative_error
from ugatit_cases import (
    domains_of,
    image_pair,
    recorded_networks,
    step_config_of,
    tiny_ugatit,
)

from fqgan.ugatit import Discriminator, Judged, build_networks
from fqgan.ugatit.config import GanLoss
from fqgan.ugatit.step import (
    cam_loss,
    deceivers_loss,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    judges_loss,
    l2_penalty,
)

TOLERANCE = 1e-4
NETWORK_TOLERANCE = 2e-3


@pytest.mark.golden
@pytest.mark.cases("ugatit/ugatit_ops*.npz")
def test_adversarial_losses_agree_with_the_recorded_ones(case):
    recorded = Recorded(case)
    kinds = [name.removeprefix("gan/") for name in recorded.names if name.startswith("gan/")]
    pairs = [(recorded[f"logits/real{i}"], recorded[f"logits/fake{i}"]) for i in range(2)]
    for kind in set(kinds) & set(get_args(GanLoss)):
        judge = sum(discriminator_loss(kind, real, fake) for real, fake in pairs)
        deceiver = sum(generator_loss(kind, fake) for _, fake in pairs)
        assert relative_error(torch.stack([judge, deceiver]), recorded[f"gan/{kind}"]) < TOLERANCE
    assert set(get_args(GanLoss)) <= set(kinds)
    heads = [logits[:, 0, 0] for logits in pairs[0]]  # what the recorded loss was given
    assert relative_error(cam_loss(*heads), recorded["gan/cam_loss"]) < TOLERANCE
    assert relative_error(F.l1_loss(*pairs[0]), recorded["gan/L1"]) < TOLERANCE


@pytest.mark.golden
@pytest.mark.cases("ugatit/ugatit_small_*.npz")
def test_all_terms_agree_with_the_recorded_ones(case):
    recorded = Recorded(case)
    networks, (a, b), config = (
        recorded_networks(recorded),
        domains_of(recorded),
        step_config_of(recorded),
    )
    to_b, to_a = networks.generators()
    found = {}
    with torch.no_grad():
        for letter, judge, own, other, real, source in (
            ("A", networks.judge_a, to_a, to_b, a, b),
            ("B", networks.judge_b, to_b, to_a, b, a),
        ):
            translated, same = own(source), own(real)
            judged = judge(translated.images)
            found[f"G_ad_loss_{letter}"] = deceivers_loss(config.loss, judged)
            found[f"D_ad_loss_{letter}"] = judges_loss(config.loss, judge(real), judged)
            found[f"reconstruction_{letter}"] = F.l1_loss(own(other(real).images).images, real)
            found[f"identity_{letter}"] = F.l1_loss(same.images, real)
            found[f"cam_{letter}"] = cam_loss(translated.cam_logits, same.cam_logits)
    found["reg_generator"] = l2_penalty(networks.generators(), config.l2_weight)
    found["reg_discriminator"] = l2_penalty(networks.discriminators(), config.l2_weight)
    for name, value in found.items():
        assert relative_error(value, recorded[f"loss/{name}"]) < NETWORK_TOLERANCE, name


def judged_as(logits):
    return Judged(*[logits] * 4, torch.zeros(len(logits)), torch.ones(()))


def test_losses_are_summed_over_both_branches_and_both_heads():
    real, fake = torch.randn(2, 3, 1)
    once = discriminator_loss("lsgan", real, fake)
    four = judges_loss("lsgan", judged_as(real), judged_as(fake))
    torch.testing.assert_close(four, 4 * once)
    torch.testing.assert_close(
        deceivers_loss("hinge", judged_as(fake)), 4 * generator_loss("hinge", fake)
    )


class Linear:
    """A discriminator whose gradient is ``weight`` everywhere."""

    def __init__(self, weight):
        self.weight, self.seen = weight, []

    def __call__(self, images, *, quantize):
        assert not quantize
        self.seen.append(images.detach())
        return judged_as((images * self.weight).flatten(1).sum(dim=1, keepdim=True))


@pytest.mark.parametrize(
    ("kind", "norm", "expected"),
    [("wgan-gp", 3.0, 4.0), ("wgan-gp", 0.5, 0.25), ("wgan-lp", 0.5, 0.0), ("dragan", 3.0, 4.0)],
)
def test_the_gradient_penalty_of_a_linear_function_is_known(kind, norm, expected):
    weight = torch.randn(3, 4, 4)
    judge = Linear(weight / weight.norm() * norm)
    real, fake = torch.randn(2, 2, 3, 4, 4)
    penalty = gradient_penalty(judge, kind, real, fake)
    assert float(penalty) == pytest.approx(4 * expected, abs=1e-5)
    share = (judge.seen[0] - real) / (fake - real)
    if kind != "dragan":
        assert all(float(one.max() - one.min()) < 1e-3 for one in share)  # on the line between


def test_the_penalty_reaches_the_weights_and_leaves_the_dictionaries_alone():
    config = tiny_ugatit()
    judge, (real, fake) = Discriminator(config), image_pair(config)
    gradient_penalty(judge, "wgan-gp", real, fake).backward()
    assert float(judge.global_branch.convs[0].weight.grad.abs().sum()) > 0.0
    assert float(judge.global_branch.quantizers["1"].steps) == 0.0


def test_l2_is_half_the_squared_norm_of_kernels_without_norms_and_biases():
    networks = build_networks(tiny_ugatit())
    expected = sum(
        float(value.detach().double().square().sum())
        for name, value in networks.named_parameters()
        if value.ndim > 1
    )
    found = float(l2_penalty([networks], 1e-4))
    assert found == pytest.approx(0.5e-4 * expected, rel=1e-4)
