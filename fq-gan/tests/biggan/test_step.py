"""Training iterations against recorded ones, and the invariants of an iteration."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from factories import Recorded, real_batch, relative_error, run_ranks, tiny_config, tiny_step

from fqgan.biggan.config import DiscriminatorConfig, GeneratorConfig, QuantizerConfig
from fqgan.biggan.networks import build_discriminator, build_generator
from fqgan.biggan.step import (
    GanStep,
    add_orthogonal_gradient,
    dcgan_discriminator_loss,
    dcgan_generator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
)
from fqgan.released.biggan import config_from_flags, step_config_from_flags

FIRST_TOLERANCE, LATER_TOLERANCE = 1e-4, 1e-3  # relative, of losses
WEIGHT_TOLERANCE = 1e-4  # absolute
SUM_TOLERANCE = 1e-3  # relative, of checksums


class Replay:
    """Gives out recorded latents and labels in the order of the calls."""

    def __init__(self) -> None:
        self.queue = []

    def fill(self, z, labels):
        self.queue = list(zip(z, labels, strict=True))

    def __call__(self, number):
        z, labels = self.queue.pop(0)
        assert len(z) == number
        return z, labels


def is_noise(part, name):
    """G's biases in front of norms, whose true gradient is 0, and the means that they shift.

    Adam turns their rounding noise into steps of the full size.
    """
    ends = (".conv1.bias", ".conv2.bias", ".conv_sc.bias", ".stored_mean")
    return part != "D" and name.endswith(ends)


def checksum(value):
    flat = value.double().flatten()
    head = torch.stack([flat.sum(), flat.abs().sum(), flat.norm()])
    return torch.cat([head, flat[:4]])


def compare(losses, metrics, accumulations, tolerance):
    """The authors' D_loss_real has the quantization loss of the fake half, and vice versa."""
    ours = {
        "G_loss": (losses.generator + losses.generator_quantization) / accumulations,
        "D_loss_real": losses.real + losses.fake_quantization,
        "D_loss_fake": losses.fake + losses.real_quantization,
        "Quant_loss": losses.generator_quantization,
        "Perplexity": losses.codebook_perplexity,
    }
    for name, value in ours.items():
        assert float(value) == pytest.approx(metrics[name], rel=tolerance, abs=1e-5), name


def assert_state(part, ours, theirs, loose):
    for name, value in theirs.items():
        tolerance = loose if is_noise(part, name) else WEIGHT_TOLERANCE
        scale = 1.0 if "weight" in name or "bias" in name else max(1.0, float(value.abs().max()))
        difference = (ours[name].double() - value.double()).abs().max()
        assert difference <= tolerance * scale, f"{name}: {float(difference)}"


def assert_sums(part, ours, theirs, loose):
    for name, value in theirs.items():
        if is_noise(part, name):
            continue
        found, scale = checksum(ours[name])[: len(value)], value[1].abs() + 1e-6
        assert ((found - value).abs() <= SUM_TOLERANCE * scale + loose).all(), name


@pytest.mark.golden
@pytest.mark.cases("biggan/train/*.npz")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_recorded_iterations_are_reproduced(case, layout):
    recorded = Recorded(case)
    flags = recorded.json("cfg")
    config, options = config_from_flags(flags), step_config_from_flags(flags)
    generator, discriminator = build_generator(config), build_discriminator(config)
    generator.load_state_dict(recorded.state("init/G"))
    discriminator.load_state_dict(recorded.state("init/D"))
    replay = Replay()
    step = GanStep(
        generator.to(memory_format=layout), discriminator.to(memory_format=layout), options,
        draw=replay,
    )  # fmt: skip
    for number, metrics in enumerate(recorded.json("metrics")):
        replay.fill(recorded[f"it{number}/z"], recorded[f"it{number}/yfake"])
        losses = step(recorded[f"it{number}/x"], recorded[f"it{number}/y"], number + 1)
        assert not replay.queue
        tolerance = LATER_TOLERANCE if number else FIRST_TOLERANCE
        compare(losses, metrics, options.num_g_accumulations, tolerance)
        loose = 2 * max(options.generator_lr, options.discriminator_lr) * (number + 1)
        parts = {"G": generator, "D": discriminator, "G_ema": step.average.module}
        for name, part in parts.items():
            state = part.state_dict()
            assert_state(name, state, recorded.state(f"it{number}/after/{name}"), 2 * loose)
            assert_sums(name, state, recorded.state(f"it{number}/chk/{name}"), loose=1e-4)


def run(config, options, steps=2, seed=0, **changes):
    torch.manual_seed(seed)
    step = GanStep(
        build_generator(config), build_discriminator(config), replace(options, **changes)
    )
    for number in range(1, steps + 1):
        images, labels = real_batch(config, step.config.images_per_step, seed=number)
        losses = step(images, labels, number)
    return step, losses


@pytest.mark.parametrize("architecture", ["biggan", "biggan-deep"])
@pytest.mark.parametrize("norm", ["bn", "mybn", "sync-bn", "in", "gn", "none"])
def test_an_iteration_moves_both_networks_in_every_norm(architecture, norm):
    config = tiny_config(
        architecture=architecture,
        generator=GeneratorConfig(channels=8, latent_dim=8, norm=norm, attention=(16,)),
        discriminator=DiscriminatorConfig(channels=8, attention=(16,), wide=False),
    )
    step, losses = run(config, tiny_step(), steps=1)
    assert all(torch.isfinite(value) for value in losses)
    torch.manual_seed(0)
    for fresh, moved in (
        (build_generator(config), step.generator), (build_discriminator(config), step.discriminator)
    ):  # fmt: skip
        changed = [
            not torch.equal(a, b)
            for a, b in zip(fresh.parameters(), moved.parameters(), strict=True)
        ]
        assert sum(changed) > 0.9 * len(changed)


@pytest.mark.parametrize("forward", ["commit_only", "straight_through"])
@pytest.mark.parametrize("loss", ["hinge", "dcgan"])
def test_both_forward_modes_and_losses_stay_finite(forward, loss):
    config = tiny_config(quantizer=QuantizerConfig(layers=(1, 3), codebook_size=8, forward=forward))
    _, losses = run(config, tiny_step(loss=loss), steps=3)
    assert all(torch.isfinite(value) for value in losses)


def test_without_quantized_layers_it_is_plain_biggan():
    config = tiny_config(quantizer=QuantizerConfig(layers=()))
    step, losses = run(config, tiny_step())
    assert float(losses.generator_quantization) == 0.0
    assert not any("embed_avg" in name for name in step.discriminator.state_dict())


def test_a_network_scored_in_halves_equals_one_scored_together_without_quantization():
    config = tiny_config(quantizer=QuantizerConfig(layers=()))
    together, _ = run(config, tiny_step(num_d_steps=1), steps=1)
    split, _ = run(config, tiny_step(num_d_steps=1), steps=1, split_d=True)
    for a, b in zip(
        together.discriminator.parameters(), split.discriminator.parameters(), strict=True
    ):
        assert (a - b).abs().max() <= 2 * together.config.discriminator_lr + 1e-6


def test_split_scoring_trains_with_quantization():
    _, losses = run(tiny_config(), tiny_step(split_d=True))
    assert all(torch.isfinite(value) for value in losses)


def test_a_larger_fake_batch_and_accumulation_are_taken():
    step, losses = run(
        tiny_config(),
        tiny_step(generator_batch_size=3, num_d_accumulations=2, num_g_accumulations=2),
    )
    assert step.config.images_per_step == 8
    assert torch.isfinite(losses.generator)


def test_a_wrong_number_of_images_is_refused_in_words():
    config = tiny_config()
    step = GanStep(build_generator(config), build_discriminator(config), tiny_step())
    with pytest.raises(ValueError, match="takes 4 real images"):
        step(*real_batch(config, 3), 1)


def test_a_resumed_iteration_equals_an_uninterrupted_one():
    config, options = tiny_config(), tiny_step(ema_start=2)
    whole, _ = run(config, options, steps=3)
    half, _ = run(config, options, steps=2)
    random = torch.get_rng_state()
    torch.manual_seed(99)
    other = GanStep(build_generator(config), build_discriminator(config), options)
    for name in ("generator", "discriminator", "generator_optimizer", "discriminator_optimizer"):
        getattr(other, name).load_state_dict(copy.deepcopy(getattr(half, name).state_dict()))
    other.average.load_state_dict(half.average.state_dict())
    torch.set_rng_state(random)
    other(*real_batch(config, options.images_per_step, seed=3), 3)
    for name in ("generator", "discriminator", "average"):
        a, b = getattr(whole, name).state_dict(), getattr(other, name).state_dict()
        assert all(torch.equal(a[key], b[key]) for key in a)


SYNCHRONIZED = GeneratorConfig(channels=4, latent_dim=8, norm="sync-bn")
TWICE = {"num_d_accumulations": 2, "num_g_accumulations": 2, "generator_ortho": 1e-3}


def one_rank(rank, store):
    """Two iterations on this rank's half of every batch."""
    config, options = tiny_config(generator=SYNCHRONIZED), tiny_step(**TWICE)
    torch.manual_seed(rank)
    noise = torch.Generator().manual_seed(5)

    def draw(number):
        z = torch.randn(2 * number, 8, generator=noise)
        labels = torch.randint(3, (2 * number,), generator=noise)
        return z.chunk(2)[rank], labels.chunk(2)[rank]

    step = GanStep(build_generator(config), build_discriminator(config), options, draw=draw)
    if rank == 0:
        start = [step.generator.state_dict(), step.discriminator.state_dict()]
        torch.save(start, f"{store}.start")
    for number in (1, 2):
        images, labels = real_batch(config, 2 * options.images_per_step, seed=number)
        shape = (-1, 2, options.batch_size)
        mine = images.view(*shape, 3, 32, 32)[:, rank].flatten(0, 1)
        losses = step(mine, labels.view(shape)[:, rank].flatten(), number)
    networks = (step.generator, step.discriminator, step.average)
    torch.save([*(part.state_dict() for part in networks), list(losses)], f"{store}.{rank}")


def one_rank_with_own_norms(rank, store):
    config = tiny_config(quantizer=QuantizerConfig(layers=(0,), codebook_size=8))
    torch.manual_seed(rank)
    step = GanStep(build_generator(config), build_discriminator(config), tiny_step())
    for number in (1, 2):
        losses = step(*real_batch(config, step.config.images_per_step, seed=rank), number)
    networks = (step.generator, step.discriminator, step.average)
    torch.save([*(part.state_dict() for part in networks), list(losses)], f"{store}.{rank}")


def test_ranks_stay_equal_with_norms_of_their_own(tmp_path):
    store = str(tmp_path / "store")
    run_ranks(one_rank_with_own_norms, store)
    first, second = (torch.load(f"{store}.{rank}", weights_only=True) for rank in range(2))
    for a, b in zip(first[:3], second[:3], strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert all(torch.equal(a, b) for a, b in zip(first[3], second[3], strict=True))


def test_two_processes_do_what_one_does_with_the_whole_batch(tmp_path):
    store = str(tmp_path / "store")
    run_ranks(one_rank, store)
    first, second = (torch.load(f"{store}.{rank}", weights_only=True) for rank in range(2))
    for a, b in zip(first[:3], second[:3], strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)
    config, options = tiny_config(generator=SYNCHRONIZED), tiny_step(batch_size=4, **TWICE)
    noise = torch.Generator().manual_seed(5)
    generator, discriminator = build_generator(config), build_discriminator(config)
    start = torch.load(f"{store}.start", weights_only=True)
    generator.load_state_dict(start[0])
    discriminator.load_state_dict(start[1])
    step = GanStep(generator, discriminator, options, draw=lambda number: (
        torch.randn(number, 8, generator=noise),
        torch.randint(3, (number,), generator=noise),
    ))  # fmt: skip
    for number in (1, 2):
        losses = step(*real_batch(config, options.images_per_step, seed=number), number)
    loose = 2 * 2 * options.discriminator_lr
    parts = {"G": step.generator, "D": step.discriminator, "G_ema": step.average}
    for (name, ours), theirs in zip(parts.items(), first[:3], strict=True):
        assert_state(name, ours.state_dict(), theirs, loose)
    for ours, theirs in zip(losses, first[3], strict=True):
        assert relative_error(ours, theirs) < LATER_TOLERANCE


def test_a_loaded_optimizer_takes_the_rates_of_the_configuration():
    torch.manual_seed(0)
    networks = build_generator(tiny_config()), build_discriminator(tiny_config())
    step = GanStep(*networks, tiny_step(generator_lr=1e-5, generator_betas=(0.5, 0.9)))
    saved = GanStep(*networks, tiny_step(generator_lr=3.0)).generator_optimizer.state_dict()
    step.generator_optimizer.load_state_dict(saved)
    step.use_options()
    [group] = step.generator_optimizer.param_groups
    assert (group["lr"], group["betas"]) == (1e-5, (0.5, 0.9))


@pytest.mark.golden
@pytest.mark.cases("biggan/misc/losses.npz")
def test_recorded_losses_are_reproduced(case):
    recorded = Recorded(case)
    real, fake = recorded["real"].flatten(), recorded["fake"].flatten()
    hinge = torch.stack(hinge_discriminator_loss(real, fake))
    dcgan = torch.stack(dcgan_discriminator_loss(real, fake))
    assert relative_error(hinge, recorded["hinge_dis"]) < 1e-6
    assert relative_error(dcgan, recorded["dcgan_dis"]) < 1e-6
    assert relative_error(hinge_generator_loss(fake), recorded["hinge_gen"]) < 1e-6
    assert relative_error(dcgan_generator_loss(fake), recorded["dcgan_gen"]) < 1e-6


@pytest.mark.golden
@pytest.mark.cases("biggan/misc/ortho.npz")
def test_recorded_orthogonal_gradients_are_reproduced(case):
    recorded = Recorded(case)
    start = 0.25  # every gradient of the recording
    kinds = {tuple(n.split("/")[:2]) for n in recorded.names if "/grad/" in n}
    assert kinds
    for variant, strength in kinds:
        for name, theirs in recorded.state(f"{variant}/{strength}/grad").items():
            parameter = torch.nn.Parameter(recorded[f"p/{name}"])
            parameter.grad = torch.full_like(parameter, start)
            add_orthogonal_gradient([parameter], float(strength), variant)
            assert relative_error(parameter.grad, theirs) < 1e-5


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (4, 2, 3, 3)])
@pytest.mark.parametrize("variant", ["modified", "default"])
def test_the_gradient_is_that_of_the_penalty(shape, variant):
    parameter = torch.nn.Parameter(torch.randn(shape, dtype=torch.double))
    matrix = parameter.flatten(1)
    gram, identity = matrix @ matrix.t(), torch.eye(shape[0], dtype=torch.double)
    off = gram * (1 - identity) if variant == "modified" else gram - identity
    (off.square().sum() / 2).backward()
    expected = 0.1 * parameter.grad
    parameter.grad = torch.zeros_like(parameter)
    add_orthogonal_gradient([parameter], 0.1, variant)
    torch.testing.assert_close(parameter.grad, expected)


def test_a_channels_last_kernel_gets_the_same_gradient():
    kernel = torch.randn(4, 3, 3, 3)
    grads = []
    for layout in (torch.contiguous_format, torch.channels_last):
        parameter = torch.nn.Parameter(kernel.clone(memory_format=layout))
        parameter.grad = torch.zeros_like(parameter)
        add_orthogonal_gradient([parameter, torch.nn.Parameter(torch.ones(3))], 0.1)
        grads.append(parameter.grad)
    torch.testing.assert_close(*grads)
