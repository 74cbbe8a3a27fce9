"""Training iterations against recorded ones, and the invariants of an iteration."""

from __future__ import annotations

import copy

import pytest
import torch
from factories import Recorded, relative_error, run_ranks
from stylegan_cases import RecordedNetworks, tiny_config, tiny_step, worst_gradient

from fqgan.released.stylegan2 import from_tf
from fqgan.runtime.precision import MixedPrecision
from fqgan.stylegan2 import step as losses
from fqgan.stylegan2.config import DiscriminatorConfig, GeneratorConfig, QuantizerConfig, StepConfig
from fqgan.stylegan2.legacy import build_discriminator, build_generator
from fqgan.stylegan2.step import GanStep

LOSS_TOLERANCE = 1e-4
UNORDERED_TOLERANCE = 1e-2  # two passes of one graph move a dictionary in either order
GRADIENT_TOLERANCE = 2e-3  # of the largest gradient
WEIGHT_TOLERANCE = 1e-4  # absolute; a step is about 2e-3
CASES = "stylegan/networks_losses*.npz"


class RecordedStep(GanStep):
    """An iteration whose random numbers are the recorded ones."""

    def __init__(self, networks, quantized):
        recorded = networks.recorded
        self.networks, self.suffix = networks, "q" if quantized else ""
        self.before = lambda phase: None
        images = recorded["images"]
        discriminator = networks.discriminator(quantized=quantized)
        super().__init__(
            networks.generator(), discriminator, StepConfig(len(images), r1_weight=self.gamma())
        )
        self.path_length_mean.copy_(recorded["pl_mean_before"])
        self.generator.synthesis.choose_noise = lambda noise, batch: [m[:batch] for m in self.maps]

    def gamma(self):
        """R1's weight is not in the file: from the recorded penalty."""
        recorded = self.networks.recorded
        images = recorded["images"].requires_grad_()
        network = self.networks.discriminator(quantized=False)
        logits = network(images, quantize=False).logits
        (gradient,) = torch.autograd.grad(logits.sum(), images)
        squared = gradient.square().sum(dim=(1, 2, 3)).mean()
        return round(float(2 * recorded["loss/D_r1"].mean() / squared), 2)

    def set_draws(self, kind, regularizer=False):
        draws = self.networks.draws(kind + self.suffix)
        starts = [i for i, d in enumerate(draws) if d.ndim == 2]
        start = starts[1] if regularizer else 0
        self.latents = draws[start]
        self.maps = draws[start + 1 : start + 1 + len(self.generator.synthesis.noise_sizes)]
        self.image_noise = draws[-1]

    def draw_recorded(self, number):
        assert number == len(self.latents)
        return self.latents, None

    def _generator_loss(self, lod):
        self.draw = self.draw_recorded
        self.set_draws("G")
        return super()._generator_loss(lod)

    def _path_length_loss(self, lod, factor):
        self.before("it0_afterG")
        self.set_draws("G", regularizer=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "randn_like", lambda x: self.image_noise[: len(x)])
            return super()._path_length_loss(lod, factor)

    def _discriminator_loss(self, real, labels, lod):
        self.before("it0_afterGreg")
        self.draw = self.draw_recorded
        self.set_draws("D")
        return super()._discriminator_loss(real, labels, lod)

    def _gradient_penalties(self, real, labels, lod, factor):
        self.before("it0_afterD")
        return super()._gradient_penalties(real, labels, lod, factor)


@pytest.mark.golden
@pytest.mark.cases(CASES)
def test_losses_and_gradients_agree_with_recorded_ones(case, device):
    recorded = Recorded(case, device)
    step = RecordedStep(
        RecordedNetworks(recorded, "Dplain/", "loss/D_r1", "grad/G/"), quantized=False
    )
    generator, discriminator = step.generator, step.discriminator
    parts = {
        "G": (lambda: step._generator_loss(0.0), generator, 1),
        "G_pathreg": (lambda: step._path_length_loss(0.0, step.generator_every), generator, 4),
        "D": (lambda: step._discriminator_loss(recorded["images"], None, 0.0), discriminator, 1),
        "D_r1": (
            lambda: step._gradient_penalties(
                recorded["images"], None, 0.0, step.discriminator_every
            ),
            discriminator, 16,
        ),
    }  # fmt: skip
    for name, (compute, network, interval) in parts.items():
        loss, _ = compute()
        theirs = recorded[f"loss/{name}"].mean() * interval
        assert relative_error(loss, theirs) < LOSS_TOLERANCE, name
        if name == "G":
            average = recorded["loss/G/dlatent_avg_after"]
            assert relative_error(generator.style_average, average) < LOSS_TOLERANCE
        generator.zero_grad()
        discriminator.zero_grad()
        loss.backward()
        gradients = recorded.state(f"grad/{name}")
        assert worst_gradient(network, gradients) < GRADIENT_TOLERANCE, name
    mean = recorded["loss/pl_mean_after"]
    torch.testing.assert_close(step.path_length_mean, mean, rtol=LOSS_TOLERANCE, atol=0)


@pytest.mark.golden
@pytest.mark.cases(CASES)
def test_losses_with_quantization_agree_with_recorded_ones(case, device):
    recorded = Recorded(case, device)
    networks = RecordedNetworks(recorded, "D/", "loss/Gq", "grad/Gq")
    step = RecordedStep(networks, quantized=True)
    loss, _ = step._generator_loss(0.0)
    # The recorded losses are (N, N) by accident; their mean is that of the parts.
    assert relative_error(loss, recorded["loss/Gq"].mean()) < LOSS_TOLERANCE
    loss.backward()
    gradients = recorded.state("grad/Gq")
    assert worst_gradient(step.generator, gradients) < GRADIENT_TOLERANCE
    step = RecordedStep(networks, quantized=True)
    loss, _ = step._discriminator_loss(recorded["images"], None, 0.0)
    assert relative_error(loss, recorded["loss/Dq"].mean()) < UNORDERED_TOLERANCE
    counts = recorded.state("train_fq/after_D_op")
    for name, quantizer in step.discriminator.quantizers.items():
        scope = f"Discrete_mapping_{name}"
        assert quantizer.steps == counts[f"{scope}/{scope}/ema_cluster_size/local_step"]


@pytest.mark.golden
@pytest.mark.cases(CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_recorded_iterations_are_reproduced(case, layout):
    recorded = Recorded(case)
    step = RecordedStep(RecordedNetworks(recorded, "Dplain/", "train/"), quantized=False)
    step.generator.to(memory_format=layout)
    step.discriminator.to(memory_format=layout)
    compared = set()

    def compare(phase):
        if phase in compared:
            return
        compared.add(phase)
        networks = {
            "G": step.generator, "Dplain": step.discriminator, "Gs": step.average.module
        }  # fmt: skip
        for name, network in networks.items():
            own = network.state_dict()
            for key, value in from_tf(recorded.state(f"train/{phase}/{name}")).items():
                difference = float((own[key] - value).abs().max())
                assert difference < WEIGHT_TOLERANCE, f"{phase} {name} {key}: {difference}"

    step.before = compare
    step(recorded["images"], None, 1)
    compare("it0_afterDreg")
    step(recorded["images"], None, 2)
    compare("it1_end")
    recorded_phases = {n.split("/")[1] for n in recorded.names if n.startswith("train/")}
    assert recorded_phases <= compared


def real_batch(number, seed=0, side=16):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(number, 3, side, side, generator=random) * 2 - 1


def run(config=None, steps=2, precision=None, **changes):
    torch.manual_seed(0)
    config = config or tiny_config()
    step = GanStep(
        build_generator(config), build_discriminator(config), tiny_step(**changes),
        precision=precision,
    )  # fmt: skip
    losses = None
    for number in range(1, steps + 1):
        images = real_batch(step.config.images_per_step, seed=number)
        labels = torch.arange(len(images)) % max(config.label_size, 1)
        losses = step(images, labels, number)
    return step, losses


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"discriminator_every": 0, "generator_every": 0},
        {"generator_loss": "logistic", "r2_weight": 1.0},
        {
            "generator_loss": "wgan", "discriminator_loss": "wgan", "r1_weight": 0.0,
            "gradient_penalty_weight": 10.0, "drift_weight": 1e-3, "path_length_weight": 0.0,
        },
        {"num_accumulations": 2, "batch_size": 2},
    ],
)  # fmt: skip
def test_every_loss_moves_both_networks(changes):
    step, losses = run(**changes)
    assert all(torch.isfinite(value) for value in losses)
    assert float(losses.skipped) == 0
    torch.manual_seed(0)
    fresh = build_generator(tiny_config()), build_discriminator(tiny_config())
    for before, after in zip(fresh, (step.generator, step.discriminator), strict=True):
        moved = [
            not torch.equal(a, b)
            for a, b in zip(before.parameters(), after.parameters(), strict=True)
        ]
        assert all(moved)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("forward", ["commit_only", "straight_through"])
def test_half_precision_stays_finite(precision, forward):
    quantizer = QuantizerConfig(layers=(3, 4), codebook_size=8, forward=forward)
    config = tiny_config(quantizer=quantizer, label_size=2)
    _, losses = run(config, precision=MixedPrecision(precision, "cpu"))
    assert all(torch.isfinite(value) for value in losses)


def test_growing_networks_take_the_same_iteration():
    config = tiny_config(
        (),
        generator=GeneratorConfig("growing", channel_base=64, channel_max=8),
        discriminator=DiscriminatorConfig("growing", channel_base=64, channel_max=8),
    )
    step, _ = run(config, steps=0)
    losses = step(real_batch(4), None, 1, lod=0.5)
    assert all(torch.isfinite(value) for value in losses)


def test_regularizers_run_when_they_are_due():
    step, _ = run(steps=0, generator_every=2, discriminator_every=3)
    counts = []
    for number in range(1, 7):
        before = list(step.updates.values())
        step(real_batch(4), None, number)
        counts.append([b - a for a, b in zip(before, step.updates.values(), strict=True)])
    assert counts == [[2, 2], [1, 1], [2, 1], [1, 2], [2, 1], [1, 1]]


def test_lazy_regularization_corrects_adam():
    step, _ = run(steps=0)
    for optimizer, every in ((step.generator_optimizer, 4), (step.discriminator_optimizer, 16)):
        (group,) = optimizer.param_groups
        share = every / (every + 1)
        assert group["lr"] == pytest.approx(0.002 * share)
        assert group["betas"] == (0.0, pytest.approx(0.99**share))


def test_two_accumulated_batches_equal_one_of_twice_the_size():
    """Without what depends on the batch: minibatch deviation, dictionaries, path length."""
    config = tiny_config(
        (), discriminator=DiscriminatorConfig(channel_base=64, channel_max=8, group_size=0)
    )
    latents = torch.randn(8, 6)
    results = []
    for batch_size, accumulations in ((8, 1), (4, 2)):
        step, _ = run(
            config, steps=0, batch_size=batch_size, num_accumulations=accumulations,
            path_length_weight=0.0,
        )  # fmt: skip
        queue = iter([*latents.split(batch_size)] * 4)
        step.draw = lambda n, queue=queue: (next(queue), None)
        step.generator.synthesis.choose_noise = lambda noise, batch: [None] * 5
        mixing_off = GeneratorConfig(channel_base=64, channel_max=8, style_mixing=0.0)
        step.generator.config = tiny_config((), generator=mixing_off)
        step(real_batch(8), None, 1)
        results.append(step)
    for part in ("generator", "discriminator"):
        pairs = (getattr(step, part).parameters() for step in results)
        for a, b in zip(*pairs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4)


def test_the_average_has_its_half_life_in_images():
    step, _ = run(steps=1, average_kimg=0.004)  # half-life of one batch
    torch.manual_seed(0)
    before = build_generator(tiny_config())
    for old, now, averaged in zip(
        before.parameters(), step.generator.parameters(), step.average.module.parameters(),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(averaged, (old + now) / 2)


def test_gradients_that_are_not_finite_leave_the_networks_alone():
    step, _ = run(steps=1)
    before = copy.deepcopy(step.discriminator.state_dict())
    images = real_batch(4)
    images[0, 0, 0, 0] = float("nan")
    losses = step(images, None, 2)
    assert float(losses.skipped) == 1.0
    after = step.discriminator.state_dict()
    assert all(
        torch.equal(after[name], before[name]) for name, _ in step.discriminator.named_parameters()
    )
    assert torch.isnan(losses.real)


def test_a_new_phase_changes_rates_and_forgets_moments():
    step, _ = run(steps=1)
    step.set_phase(2, 2, lr=0.01)
    step.reset_optimizers()
    assert not step.generator_optimizer.state
    assert set(step.updates.values()) == {0}
    losses = step(real_batch(4), None, 2)
    assert torch.isfinite(losses.real)
    assert step.generator_optimizer.param_groups[0]["lr"] == pytest.approx(0.008)


def test_a_wrong_number_of_images_is_refused_in_words():
    step, _ = run(steps=0)
    with pytest.raises(ValueError, match="takes 4 real images"):
        step(real_batch(3), None, 1)


def test_a_resumed_iteration_equals_an_uninterrupted_one():
    whole, _ = run(steps=6)
    half, _ = run(steps=3)
    random = torch.get_rng_state()
    other, _ = run(steps=0)
    parts = ("generator", "discriminator", "average")
    for name in parts:
        getattr(other, name).load_state_dict(copy.deepcopy(getattr(half, name).state_dict()))
    other.load_state_dict(copy.deepcopy(half.state_dict()))
    torch.set_rng_state(random)
    for number in (4, 5, 6):
        other(real_batch(4, seed=number), torch.zeros(4, dtype=torch.long), number)
    for name in parts:
        expected = getattr(whole, name).state_dict()
        for key, value in getattr(other, name).state_dict().items():
            assert torch.equal(value, expected[key]), f"{name} {key}"


def two_ranks(rank, store):
    torch.manual_seed(rank)  # networks of the first rank are sent out
    config = tiny_config()
    step = GanStep(build_generator(config), build_discriminator(config), tiny_step())
    for number in (1, 2):
        step(real_batch(4, seed=rank), None, number)
    states = [step.generator.state_dict(), step.discriminator.state_dict()]
    flat = torch.cat([v.flatten() for s in states for v in s.values()])
    other = flat.clone()
    torch.distributed.broadcast(other, src=0)
    assert torch.equal(flat, other)
    mean = step.path_length_mean.clone()
    torch.distributed.broadcast(mean, src=0)
    assert torch.equal(mean, step.path_length_mean)


def test_ranks_stay_equal(tmp_path):
    run_ranks(two_ranks, str(tmp_path / "store"))


TOLERANCE = 1e-4


@pytest.mark.golden
@pytest.mark.cases(CASES)
@pytest.mark.parametrize("name", ["loss/D_r1", "loss/Dq_r1"])
def test_r1_agrees_with_recorded_values_up_to_its_weight(case, name):
    recorded = Recorded(case)
    network = RecordedNetworks(recorded, name).discriminator(quantized="q" in name)
    images = recorded["images"].requires_grad_()
    ours = losses.squared_gradient(network(images, quantize=False).logits, images)
    theirs = recorded[name]
    # gamma is not in the file; half of it is the same factor for all images.
    assert relative_error(ours / ours.sum(), theirs / theirs.sum()) < TOLERANCE


@pytest.mark.golden
@pytest.mark.cases(CASES)
def test_path_lengths_give_the_recorded_penalty(case):
    recorded = Recorded(case)
    networks = RecordedNetworks(recorded, "G/", "loss/G_pathreg", "rand/G/")
    generator = networks.generator()
    draws = networks.draws("G")
    first = next(i for i in range(1, len(draws)) if draws[i].ndim == 2)
    latents, maps, noise = draws[first], draws[first + 1 : -1], draws[-1]
    styles = generator.training_styles(latents).contiguous()
    images = generator.synthesis(styles, [m[: len(latents)] for m in maps])
    lengths = losses.path_lengths(images, styles, noise[: len(latents)])
    mean = torch.lerp(recorded["pl_mean_before"], lengths.mean(), 0.01)
    torch.testing.assert_close(mean, recorded["loss/pl_mean_after"], rtol=TOLERANCE, atol=0)
    ours = 2.0 * (lengths - mean).square()
    assert relative_error(ours, recorded["loss/G_pathreg"]) < TOLERANCE


def test_logistic_losses_are_cross_entropies():
    real, fake = torch.randn(5), torch.randn(5)
    loss = losses.logistic_discriminator_loss(real, fake)
    torch.testing.assert_close(loss.real, -torch.log(torch.sigmoid(real)))
    torch.testing.assert_close(loss.fake, -torch.log(1 - torch.sigmoid(fake)))
    torch.testing.assert_close(
        losses.nonsaturating_generator_loss(fake), -torch.log(torch.sigmoid(fake))
    )
    torch.testing.assert_close(
        losses.saturating_generator_loss(fake), torch.log(1 - torch.sigmoid(fake))
    )


def test_wasserstein_losses_are_opposite():
    real, fake = torch.randn(5), torch.randn(5)
    loss = losses.wasserstein_discriminator_loss(real, fake)
    torch.testing.assert_close(loss.real + loss.fake, fake - real)
    torch.testing.assert_close(losses.wasserstein_generator_loss(fake), -loss.fake)


def test_the_gradient_of_a_linear_score_is_its_weight():
    weight = torch.randn(3, 4, 4)
    real, fake = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)

    def score(x):
        return (x * weight).sum(dim=(1, 2, 3))

    images = real.clone().requires_grad_()
    squared = losses.squared_gradient(score(images), images)
    torch.testing.assert_close(squared, weight.square().sum().expand(2))
    penalty = losses.gradient_penalty(score, real, fake)
    torch.testing.assert_close(penalty, (weight.norm() - 1).square().expand(2))


def test_path_lengths_of_a_linear_map_are_norms_of_its_transpose():
    matrix = torch.randn(12, 5)
    styles = torch.randn(2, 3, 5, requires_grad=True)
    images = (styles.sum(dim=1) @ matrix.t()).view(2, 3, 2, 2)
    noise = torch.randn(2, 3, 2, 2)
    expected = ((noise.flatten(1) / 2) @ matrix).norm(dim=1)
    torch.testing.assert_close(losses.path_lengths(images, styles, noise), expected)


def test_where_nothing_moves_penalties_and_lengths_have_finite_gradients():
    weight = torch.zeros(3, 4, 4, requires_grad=True)
    images = torch.randn(2, 3, 4, 4)
    losses.gradient_penalty(
        lambda x: (x * weight).sum(dim=(1, 2, 3)), images, images
    ).sum().backward()
    assert torch.equal(weight.grad, torch.zeros_like(weight))
    matrix = torch.zeros(12, 5, requires_grad=True)
    styles = torch.randn(2, 3, 5, requires_grad=True)
    flat = (styles.sum(dim=1) @ matrix.t()).view(2, 3, 2, 2)
    losses.path_lengths(flat, styles, torch.randn(2, 3, 2, 2)).sum().backward()
    assert torch.isfinite(matrix.grad).all()
