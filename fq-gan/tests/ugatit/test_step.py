"""Training iterations against recorded ones, and the invariants of an iteration."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from factories import Recorded, relative_error, run_ranks
from ugatit_cases import (
    domains_of,
    image_pair,
    images_of,
    recorded_networks,
    recorded_states,
    step_config_of,
    tiny_ugatit,
)

from fqgan.runtime.precision import MixedPrecision
from fqgan.ugatit import (
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
    UgatitStep,
    build_networks,
)
from fqgan.ugatit.config import GanLoss
from fqgan.ugatit.step import cam_loss, deceivers_loss, l2_penalty

LOSS_TOLERANCE = 1e-4  # relative
WEIGHT_TOLERANCE = 1e-4  # absolute, one step of Adam; of 99 % of the weights
TYPICAL_TOLERANCE = 2e-6  # absolute, median over all weights
IMAGE_TOLERANCE = 5e-3  # relative, on average, after the last recorded step
BEFORE_NORM = (".conv1.bias", ".conv2.bias", ".first.bias", "down.0.bias", "down.1.bias")
SCHEDULE = ScheduleConfig()


def start(networks, **options):
    return UgatitStep(networks, StepConfig(**options), SCHEDULE)


@pytest.mark.golden
@pytest.mark.cases("ugatit/ugatit_small_*.npz")
def test_iterations_agree_with_the_recorded_ones(case):
    recorded = Recorded(case)
    # The recorded iterations follow one pass of real and one of translated images.
    networks = recorded_networks(recorded, "init", "vq_real/after", "vq_fake/after")
    config, (a, b) = step_config_of(recorded), domains_of(recorded)
    step = UgatitStep(networks, config, SCHEDULE)
    number = 0
    while f"step{number}/D_loss" in recorded.names:
        l2 = [l2_penalty(part, config.l2_weight)
              for part in (networks.discriminators(), networks.generators())]  # fmt: skip
        found = step(a, b, number + 1)
        judges = config.adversarial_weight * found.discriminator + found.discriminator_quantization
        generators = (
            config.adversarial_weight * found.generator
            + config.cycle_weight * found.cycle
            + config.identity_weight * found.identity
            + config.cam_weight * found.cam
            + found.generator_quantization
        )
        assert relative_error(judges + l2[0], recorded[f"step{number}/D_loss"]) < LOSS_TOLERANCE
        assert relative_error(generators + l2[1], recorded[f"step{number}/G_loss"]) < LOSS_TOLERANCE
        compare_weights(networks, recorded, f"step{number}/afterG")
        number += 1
    assert number > 0
    if "ckpt_out/x_ab" in recorded.names:
        compare_weights(networks, recorded, "ckpt")
        with torch.no_grad():
            for name, generator, images in (
                ("x_ab", networks.a_to_b, a), ("x_ba", networks.b_to_a, b),
            ):  # fmt: skip
                theirs = images_of(recorded, f"ckpt_out/{name}")
                error = (generator(images).images - theirs).abs().mean() / theirs.abs().mean()
                assert float(error) < IMAGE_TOLERANCE


def compare_weights(networks, recorded, prefix):
    """Weights only: dictionaries after a step of D depend on an order that TensorFlow leaves open.

    Biases in front of a norm have the true gradient 0; Adam makes steps of their rounding noise.
    """
    errors = []
    for name, state in recorded_states(recorded, prefix).items():
        parameters = dict(getattr(networks, name).named_parameters())
        for key, value in state.items():
            if key in parameters and not key.endswith(BEFORE_NORM):
                errors.append((parameters[key].detach() - value).abs().flatten())
    if errors:
        together = torch.cat(errors)
        assert float(together.median()) < TYPICAL_TOLERANCE
        assert float(together.quantile(0.99)) < WEIGHT_TOLERANCE


def plain_gradients(networks, config, a, b):
    """The authors' order: every translation on its own, one sum of all losses, one backward."""
    to_b, to_a = networks.generators()
    x_ab, x_ba, x_aa, x_bb = to_b(a), to_a(b), to_a(a), to_b(b)
    x_aba, x_bab = to_a(x_ab.images), to_b(x_ba.images)
    fake_a, fake_b = networks.judge_a(x_ba.images), networks.judge_b(x_ab.images)
    loss = deceivers_loss(config.loss, fake_a) + deceivers_loss(config.loss, fake_b)
    loss = config.adversarial_weight * loss
    loss = loss + config.cycle_weight * (F.l1_loss(x_aba.images, a) + F.l1_loss(x_bab.images, b))
    loss = loss + config.identity_weight * (F.l1_loss(x_aa.images, a) + F.l1_loss(x_bb.images, b))
    loss = loss + config.cam_weight * (
        cam_loss(x_ba.cam_logits, x_aa.cam_logits) + cam_loss(x_ab.cam_logits, x_bb.cam_logits)
    )
    loss = loss + fake_a.quantization_loss.mean() + fake_b.quantization_loss.mean()
    parameters = [p for one in networks.generators() for p in one.parameters()]
    return torch.autograd.grad(loss, parameters)


@pytest.mark.parametrize("separate", [False, True])
def test_one_direction_at_a_time_gives_the_gradients_of_the_sum(separate):
    # Discriminators without a state of their own, so that it does not matter when they are asked.
    config = tiny_ugatit(
        discriminator=DiscriminatorConfig(2, 4, spectral_norm=False),
        quantizer=QuantizerConfig(layers=()),
    )
    options = StepConfig(separate_batches=separate)
    networks = build_networks(config)
    (a, b), (c, d) = image_pair(config, 2), image_pair(config, 2, seed=1)
    twin = copy.deepcopy(networks)
    own = {"generator_a": c, "generator_b": d} if separate else {}
    UgatitStep(networks, options, SCHEDULE)(a, b, 1, **own)
    for name in ("judge_a", "judge_b"):  # as the generators met them, after their step
        getattr(twin, name).load_state_dict(getattr(networks, name).state_dict())
    expected = plain_gradients(twin, options, *((c, d) if separate else (a, b)))
    ours = [p.grad for one in networks.generators() for p in one.parameters()]
    for gradient, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(gradient, theirs, atol=2e-4, rtol=1e-3)
    assert max(float(gradient.abs().max()) for gradient in ours) > 1.0


def test_weight_decay_is_the_gradient_of_the_l2_terms():
    config = tiny_ugatit()
    networks = build_networks(config)
    a, b = image_pair(config)
    step = start(networks, l2_weight=0.1, betas=(0.0, 0.0))
    kernel = networks.a_to_b.last.weight
    before = kernel.detach().clone()
    step(a, b, 1)
    gradient = kernel.grad + 0.1 * before
    moved = before - kernel.detach()
    torch.testing.assert_close(moved, 1e-4 * gradient.sign(), atol=1e-6, rtol=1e-2)
    assert step.generator_optimizer.param_groups[1]["weight_decay"] == 0.0


def test_nothing_is_translated_twice():
    config = tiny_ugatit()
    networks = build_networks(config)
    calls = []
    for generator in networks.generators():
        generator.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    step = start(networks)
    step(*image_pair(config), 1)
    assert sorted(calls) == [1, 1, 2, 2]  # both ways back; source and target together


def test_discriminators_can_move_more_often_than_generators():
    config = tiny_ugatit()
    networks = build_networks(config)
    step = start(networks, generator_every=2)
    a, b = image_pair(config)
    first = step(a, b, 1)
    weight = networks.a_to_b.last.weight.detach().clone()
    judge = networks.judge_a.global_branch.logit.weight.detach().clone()
    second = step(a, b, 2)
    assert torch.equal(weight, networks.a_to_b.last.weight)
    assert not torch.equal(judge, networks.judge_a.global_branch.logit.weight)
    assert float(second.cycle) == float(first.cycle)
    step(a, b, 3)
    assert not torch.equal(weight, networks.a_to_b.last.weight)


@pytest.mark.parametrize("loss", get_args(GanLoss))
@pytest.mark.parametrize("light", [False, True])
def test_every_adversarial_loss_trains(loss, light):
    config = tiny_ugatit(generator=GeneratorConfig(2, 1, light=light))
    networks = build_networks(config)
    found = start(networks, loss=loss)(*image_pair(config), 1)
    assert all(torch.isfinite(value) for value in found)
    assert (float(found.penalty) > 0.0) == (loss in ("wgan-gp", "dragan")) or loss == "wgan-lp"
    assert all(torch.isfinite(p).all() for p in networks.parameters())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_stays_close(precision):
    config = tiny_ugatit()
    networks = build_networks(config)
    exact = start(copy.deepcopy(networks))(*image_pair(config), 1)
    step = UgatitStep(networks, StepConfig(), SCHEDULE, precision=MixedPrecision(precision, "cpu"))
    found = step(*image_pair(config), 1)
    for name in ("cycle", "identity", "cam", "discriminator"):
        ours, theirs = getattr(found, name), getattr(exact, name)
        assert float(ours) == pytest.approx(float(theirs), rel=0.05)
    assert networks.judge_a.global_branch.quantizers["1"].embed.dtype == torch.float32


def test_a_resumed_step_continues_to_the_bit():
    config = tiny_ugatit()
    networks = build_networks(config)
    step, (a, b) = start(networks, generator_every=2), image_pair(config)
    step(a, b, 1)
    other = build_networks(config)
    resumed = start(other, generator_every=2)
    other.load_state_dict(copy.deepcopy(networks.state_dict()))
    resumed.load_state_dict(copy.deepcopy(step.state_dict()))
    for number in (2, 3):
        ours, theirs = resumed(a, b, number), step(a, b, number)
        assert all(torch.equal(one, two) for one, two in zip(ours, theirs, strict=True))
    for one, two in zip(other.state_dict().values(), networks.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_images_for_the_generators_are_asked_for():
    config = tiny_ugatit()
    step = start(build_networks(config), separate_batches=True)
    with pytest.raises(ValueError, match=r"--step\.separate-batches needs images"):
        step(*image_pair(config), 1)


def test_the_learning_rate_follows_the_schedule():
    config = tiny_ugatit(quantizer=QuantizerConfig(layers=()))
    schedule = replace(SCHEDULE, epochs=2, epoch_steps=1, decay_epoch=0)
    step = UgatitStep(build_networks(config), StepConfig(), schedule)
    step(*image_pair(config), 2)
    optimizers = [step.generator_optimizer, *step.judge_optimizers]
    rates = {group["lr"] for optimizer in optimizers for group in optimizer.param_groups}
    assert rates == {0.5e-4}


def train_ranks(rank, store):
    torch.manual_seed(rank)
    config = tiny_ugatit(generator=GeneratorConfig(2, 1, light=True))
    networks = build_networks(config)
    step = start(networks)
    a, b = image_pair(config, 2)
    half = slice(rank, rank + 1)
    step(a[half], b[half], 1)
    torch.save([p.detach() for p in networks.parameters()], f"{store}.{rank}")


def test_two_ranks_stay_equal_and_do_what_one_does_with_the_whole_batch(tmp_path):
    store = str(tmp_path / "store")
    run_ranks(train_ranks, store)
    first, second = torch.load(f"{store}.0"), torch.load(f"{store}.1")
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    torch.manual_seed(0)
    config = tiny_ugatit(generator=GeneratorConfig(2, 1, light=True))
    networks = build_networks(config)
    start(networks, batch_size=2)(*image_pair(config, 2), 1)
    errors = [
        (one - two.detach()).abs().flatten()
        for one, two in zip(first, networks.parameters(), strict=True)
    ]
    assert float(torch.cat(errors).median()) < 1e-7
