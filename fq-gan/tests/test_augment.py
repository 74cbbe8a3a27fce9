"""What discriminators see of small data: DiffAugment, adaptive augmentation, runs with either."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from factories import real_batch, tiny_config, tiny_step
from tiny_runs import rows_of, tiny_run, tiny_stylegan2, weights_of
from torch.nn import functional as F
from ugatit_runs import tiny_ugatit, ugatit_weights_of

from fqgan.augment import adaptive
from fqgan.augment.adaptive import AdaptiveAugment, AdaptiveOptions, transform
from fqgan.augment.diffaugment import POLICIES, change_color, cut_out, diffaugment, translate
from fqgan.biggan.config import PRESETS as BIGGAN, BigganTrain, StepConfig, digest_of
from fqgan.biggan.networks import build_discriminator, build_generator
from fqgan.biggan.step import GanStep
from fqgan.runs import train
from fqgan.stylegan2.config import PRESETS as STYLEGAN2
from fqgan.ugatit.config import PRESETS as UGATIT

ALL = ("color", "translation", "cutout")


def smooth(count: int = 4, size: int = 32) -> torch.Tensor:
    """Images without detail, which a resampling hardly changes."""
    return F.interpolate(torch.randn(count, 3, 8, 8), size, mode="bicubic")


def test_without_a_policy_images_are_the_same_object():
    images = torch.randn(2, 3, 8, 8)
    assert diffaugment(images, ()) is images


def test_translation_moves_by_at_most_an_eighth_and_leaves_zeros():
    images = torch.rand(200, 1, 16, 16) + 1
    moved = translate(images)
    kept = (moved != 0).sum(dim=(1, 2, 3))
    assert set(kept.tolist()) <= {(16 - i) * (16 - j) for i in range(3) for j in range(3)}
    assert len(set(kept.tolist())) == 6
    inside = moved[:, :, 4:12, 4:12].flatten(1)
    places = [(y, x) for y in range(2, 7) for x in range(2, 7)]
    for image, part in zip(images, inside, strict=True):
        assert any(torch.equal(image[:, y : y + 8, x : x + 8].flatten(), part) for y, x in places)


def test_cutout_takes_at_most_a_quarter():
    cut = (cut_out(torch.ones(300, 3, 16, 16)) == 0).float().mean(dim=(1, 2, 3))
    assert cut.max() == pytest.approx(0.25)
    assert cut.min() < 0.2
    assert cut.min() > 0.05


def test_colour_changes_keep_what_they_should():
    images = torch.rand(500, 3, 4, 4) * 2 - 1
    changed = change_color(images)
    shift = changed.mean(dim=(1, 2, 3)) - images.mean(dim=(1, 2, 3))
    assert shift.abs().max() <= 0.5 + 1e-5
    grey, greyer = (part.mean(dim=1).flatten(1).std(dim=1) for part in (images, changed))
    ratio = greyer / grey  # contrast
    assert 0.5 - 1e-4 <= ratio.min() < 0.6 < 1.4 < ratio.max() <= 1.5 + 1e-4


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_gradients_pass_through_every_policy(policy):
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64).float().requires_grad_()

    def augmented(one):
        torch.manual_seed(1)
        return diffaugment(one, (policy,))

    direction = torch.randn_like(images)
    (gradient,) = torch.autograd.grad(augmented(images).sum(), images)
    slope = (augmented(images + direction).sum() - augmented(images).sum()).detach()
    # Every policy is affine in the image.
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), abs=1e-3)


def test_real_and_generated_images_are_augmented_alike_in_both_steps(monkeypatch):
    config = tiny_config()
    seen = []
    monkeypatch.setattr(
        "fqgan.biggan.step.diffaugment", lambda images, policies: seen.append(policies) or images
    )
    options = tiny_step(augment=ALL, num_d_steps=1)
    step = GanStep(build_generator(config), build_discriminator(config), options)
    step(*real_batch(config, 2), 1)
    assert seen == [ALL] * 3


def test_the_wavelet_is_orthonormal_and_nothing_changes_at_probability_0():
    taps = torch.tensor(adaptive.SYM6, dtype=torch.float64)
    products = [float((taps[2 * m :] * taps[: 12 - 2 * m]).sum()) for m in range(6)]
    assert products == pytest.approx([1, 0, 0, 0, 0, 0], abs=1e-9)
    assert float(taps.sum()) == pytest.approx(math.sqrt(2))
    images = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(
        AdaptiveAugment(AdaptiveOptions())(images), images, rtol=0, atol=1e-4
    )


def test_geometry_does_what_its_matrices_say():
    images = smooth()
    one = torch.ones(4)
    cases = [
        (adaptive._scaling(-one, one), images.flip(3)),
        (adaptive._rotation(one * math.pi), images.rot90(2, (2, 3))),
        (adaptive._rotation(one * math.pi / 2), images.rot90(1, (2, 3))),
        (adaptive._shift(torch.tensor([[3.0, 2.0]] * 4)), images.roll((2, 3), (2, 3))),
    ]
    for geometry, expected in cases:
        inner = (slice(None), slice(None), slice(5, -5), slice(5, -5))
        error = (transform(images, geometry)[inner] - expected[inner]).square().mean().sqrt()
        assert error < 0.02
    half = transform(images, adaptive._scaling(0.5 * one, 0.5 * one))  # twice as large
    torch.testing.assert_close(
        half[:, :, 15:17, 15:17], images[:, :, 15:17, 15:17], rtol=0, atol=0.3
    )


def test_geometry_far_outside_shows_the_mirror_image():
    images = smooth()
    far = transform(images, adaptive._shift(torch.tensor([[20.0, 0.0]] * 4)))
    error = (far[..., 2:18] - images.flip(3)[..., 13:29]).square().mean().sqrt()
    assert error < 0.05


def test_r1_can_be_differentiated_through_the_sampling():
    grid = torch.rand(1, 3, 3, 2, dtype=torch.float64) * 2 - 1
    images = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: adaptive.sample_bilinearly(x, grid), images)
    assert torch.autograd.gradgradcheck(
        lambda x: adaptive.sample_bilinearly(x, grid).square(), images
    )
    pictures = torch.randn(2, 3, 8, 8, requires_grad=True)
    augment = AdaptiveAugment(AdaptiveOptions(initial=1.0))
    (slope,) = torch.autograd.grad(augment(pictures).square().sum(), pictures, create_graph=True)
    slope.square().sum().backward()
    assert pictures.grad.isfinite().all()


def test_hue_and_saturation_keep_luma_and_every_image_has_its_own_colours():
    images = torch.rand(400, 3, 2, 2)
    colors = adaptive.draw_colors(images, torch.tensor(1.0))
    weights = colors[:, :, :3].sum(dim=1)  # how luma depends on the three colours
    torch.testing.assert_close(weights, weights[:, :1].expand(-1, 3), rtol=1e-4, atol=1e-5)
    assert (weights[:, 0] < 0).float().mean() == pytest.approx(0.5, abs=0.1)  # flipped
    assert torch.equal(
        adaptive.draw_colors(images, torch.tensor(0.0))[:, :, :3], torch.eye(3).expand(400, 3, 3)
    )


def test_p_follows_the_sign_of_the_scores():
    augment = AdaptiveAugment(AdaptiveOptions(target=0.6, interval=2, kimg=1.0))
    for _ in range(2):
        augment.observe(torch.tensor([3.0, 2.0, 1.0, -1.0, 5.0, 1.0, 2.0, 2.0, 1.0, 1.0]))
        augment.update(100)
    assert float(augment.sign) == pytest.approx(0.8)
    assert float(augment.probability) == pytest.approx(0.2)  # 200 images of 1,000
    other = AdaptiveAugment(augment.options)
    other.load_state_dict(augment.state_dict())
    for _ in range(4):
        for one in (augment, other):
            one.observe(torch.tensor([1.0, -1.0]))
            one.update(100)
    assert float(augment.sign) == 0
    assert float(augment.probability) == float(other.probability) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"target": 2.0}, "--adaptive.target must be in"),
        ({"interval": 0}, "--adaptive.interval must be at least 1"),
        ({"kimg": 0.0}, "--adaptive.kimg must be positive"),
    ],
)
def test_bad_options_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        AdaptiveOptions(**options)


def test_a_run_with_adaptive_augmentation_resumes_to_the_bit(tmp_path):
    changes = {"adaptive": AdaptiveOptions(enabled=True, interval=1, kimg=0.01, initial=0.5)}
    whole = tiny_stylegan2(tmp_path / "whole", **changes)
    train(whole)
    halves = replace(whole, run_dir=str(tmp_path / "halves"))
    train(replace(halves, schedule=replace(halves.schedule, total_kimg=0.004)))
    train(halves)
    first, second = weights_of(tmp_path / "whole"), weights_of(tmp_path / "halves")
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    row = rows_of(tmp_path / "whole", "metrics.jsonl")[-1]
    assert row == rows_of(tmp_path / "halves", "metrics.jsonl")[-1]
    assert 0 <= row["augment_p"] <= 1
    assert -1 <= row["augment_rt"] <= 1


def test_runs_with_diffaugment_and_a_schedule_resume_to_the_bit(tmp_path):
    for name, make, read in (
        ("biggan", tiny_run, weights_of),
        ("ugatit", tiny_ugatit, ugatit_weights_of),
    ):
        whole = make(tmp_path / name, max_steps=2)
        step = replace(whole.step, augment=ALL)
        if isinstance(whole, BigganTrain):
            step = replace(step, schedule="linear", decay_start=0.0)
        whole = replace(whole, step=step)
        train(whole)
        halves = replace(whole, run_dir=str(tmp_path / f"{name}-halves"))
        train(replace(halves, max_steps=1))
        train(halves)
        first, second = read(tmp_path / name), read(tmp_path / f"{name}-halves")
        assert [key for key in first if not torch.equal(first[key], second[key])] == []
    row = rows_of(tmp_path / "biggan", "metrics.jsonl")[-1]
    assert row["lr_generator"] == pytest.approx(tiny_run(tmp_path).step.generator_lr / 2)


def test_learning_rates_fall_as_the_schedule_says():
    step = StepConfig(generator_lr=1.0, discriminator_lr=2.0, schedule="linear", decay_start=0.5)
    assert step.learning_rates(50, 100) == (1, 2)
    assert step.learning_rates(76, 100) == pytest.approx((0.5, 1.0))
    cosine = replace(step, schedule="cosine")
    assert cosine.learning_rates(76, 100) == pytest.approx((0.5, 1.0))
    assert cosine.learning_rates(100, 100)[0] < 0.01
    assert replace(step, schedule="constant").learning_rates(100, 100) == (1, 2)
    with pytest.raises(ValueError, match=r"--step\.augment colour: choose among color"):
        StepConfig(augment=("colour",))
    with pytest.raises(ValueError, match=r"--step\.decay-start must be in"):
        StepConfig(decay_start=1.0)


def test_the_papers_presets_do_not_augment_and_the_small_data_ones_do():
    for name, (_, config) in (BIGGAN | UGATIT).items():
        assert bool(config.step.augment) == name.endswith("small-data"), name
    for name, (_, config) in STYLEGAN2.items():
        assert config.adaptive.enabled == name.endswith("small-data"), name


def test_a_run_without_the_new_options_keeps_its_name():
    config = BIGGAN["biggan-c10"][1]
    assert digest_of(config) == digest_of(replace(config))
    other = replace(config, step=replace(config.step, augment=("color",)))
    assert digest_of(config) != digest_of(other)
