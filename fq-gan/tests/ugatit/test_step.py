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
    tiny_networks,
)

from fqgan.runtime.precision import MixedPrecision
from fqgan.ugatit.config import (
    DiscriminatorConfig,
    GanLoss,
    GeneratorConfig,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
)
from fqgan.ugatit.networks import Discriminator, DiscriminatorOutput, build_networks
from fqgan.ugatit.step import (
    UgatitStep,
    cam_loss,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    l2_penalty,
    total_discriminator_loss,
    total_generator_loss,
)

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
    loss = total_generator_loss(config.loss, fake_a) + total_generator_loss(config.loss, fake_b)
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
    config = tiny_networks(
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
    config = tiny_networks()
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
    config = tiny_networks()
    networks = build_networks(config)
    calls = []
    for generator in networks.generators():
        generator.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    step = start(networks)
    step(*image_pair(config), 1)
    assert sorted(calls) == [1, 1, 2, 2]  # both ways back; source and target together


def test_discriminators_can_move_more_often_than_generators():
    config = tiny_networks()
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
    config = tiny_networks(generator=GeneratorConfig(2, 1, light=light))
    networks = build_networks(config)
    found = start(networks, loss=loss)(*image_pair(config), 1)
    assert all(torch.isfinite(value) for value in found)
    assert (float(found.penalty) > 0.0) == (loss in ("wgan-gp", "dragan")) or loss == "wgan-lp"
    assert all(torch.isfinite(p).all() for p in networks.parameters())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_stays_close(precision):
    config = tiny_networks()
    networks = build_networks(config)
    exact = start(copy.deepcopy(networks))(*image_pair(config), 1)
    step = UgatitStep(networks, StepConfig(), SCHEDULE, precision=MixedPrecision(precision, "cpu"))
    found = step(*image_pair(config), 1)
    for name in ("cycle", "identity", "cam", "discriminator"):
        ours, theirs = getattr(found, name), getattr(exact, name)
        assert float(ours) == pytest.approx(float(theirs), rel=0.05)
    assert networks.judge_a.global_branch.quantizers["1"].embed.dtype == torch.float32


def test_a_resumed_step_continues_to_the_bit():
    config = tiny_networks()
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
    config = tiny_networks()
    step = start(build_networks(config), separate_batches=True)
    with pytest.raises(ValueError, match=r"--step\.separate-batches needs images"):
        step(*image_pair(config), 1)


def test_the_learning_rate_follows_the_schedule():
    config = tiny_networks(quantizer=QuantizerConfig(layers=()))
    schedule = replace(SCHEDULE, epochs=2, epoch_steps=1, decay_epoch=0)
    step = UgatitStep(build_networks(config), StepConfig(), schedule)
    step(*image_pair(config), 2)
    optimizers = [step.generator_optimizer, *step.discriminator_optimizers]
    rates = {group["lr"] for optimizer in optimizers for group in optimizer.param_groups}
    assert rates == {0.5e-4}


def train_ranks(rank, store):
    torch.manual_seed(rank)
    config = tiny_networks(generator=GeneratorConfig(2, 1, light=True))
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
    config = tiny_networks(generator=GeneratorConfig(2, 1, light=True))
    networks = build_networks(config)
    start(networks, batch_size=2)(*image_pair(config, 2), 1)
    errors = [
        (one - two.detach()).abs().flatten()
        for one, two in zip(first, networks.parameters(), strict=True)
    ]
    assert float(torch.cat(errors).median()) < 1e-7


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
            found[f"G_ad_loss_{letter}"] = total_generator_loss(config.loss, judged)
            found[f"D_ad_loss_{letter}"] = total_discriminator_loss(
                config.loss, judge(real), judged
            )
            found[f"reconstruction_{letter}"] = F.l1_loss(own(other(real).images).images, real)
            found[f"identity_{letter}"] = F.l1_loss(same.images, real)
            found[f"cam_{letter}"] = cam_loss(translated.cam_logits, same.cam_logits)
    found["reg_generator"] = l2_penalty(networks.generators(), config.l2_weight)
    found["reg_discriminator"] = l2_penalty(networks.discriminators(), config.l2_weight)
    for name, value in found.items():
        assert relative_error(value, recorded[f"loss/{name}"]) < NETWORK_TOLERANCE, name


def judged_as(logits):
    return DiscriminatorOutput(*[logits] * 4, torch.zeros(len(logits)), torch.ones(()))


def test_losses_are_summed_over_both_branches_and_both_heads():
    real, fake = torch.randn(2, 3, 1)
    once = discriminator_loss("lsgan", real, fake)
    four = total_discriminator_loss("lsgan", judged_as(real), judged_as(fake))
    torch.testing.assert_close(four, 4 * once)
    torch.testing.assert_close(
        total_generator_loss("hinge", judged_as(fake)), 4 * generator_loss("hinge", fake)
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
    config = tiny_networks()
    judge, (real, fake) = Discriminator(config), image_pair(config)
    gradient_penalty(judge, "wgan-gp", real, fake).backward()
    assert float(judge.global_branch.convs[0].weight.grad.abs().sum()) > 0.0
    assert float(judge.global_branch.quantizers["1"].steps) == 0.0


def test_l2_is_half_the_squared_norm_of_kernels_without_norms_and_biases():
    networks = build_networks(tiny_networks())
    expected = sum(
        float(value.detach().double().square().sum())
        for name, value in networks.named_parameters()
        if value.ndim > 1
    )
    found = float(l2_penalty([networks], 1e-4))
    assert found == pytest.approx(0.5e-4 * expected, rel=1e-4)
