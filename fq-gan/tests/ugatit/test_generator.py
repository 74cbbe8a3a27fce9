"""Generators against recorded ones, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from factories import Recorded, relative_error
from ugatit_cases import domains_of, images_of, recorded_networks, tiny_ugatit

from fqgan.ugatit import Generator, GeneratorConfig

TOLERANCE = 1e-3  # relative; 20 layers
RETURN_TOLERANCE = 2e-3  # there and back


@pytest.mark.golden
@pytest.mark.cases("ugatit/ugatit_small_*.npz")
def test_translations_agree_with_the_recorded_ones(case):
    recorded = Recorded(case)
    networks, (a, b) = recorded_networks(recorded), domains_of(recorded)
    to_b, to_a = networks.generators()
    with torch.no_grad():
        found = {"ab": to_b(a), "ba": to_a(b), "aa": to_a(a), "bb": to_b(b)}
        back = {"aba": to_a(found["ab"].images), "bab": to_b(found["ba"].images)}
    for name, translated in found.items():
        images = images_of(recorded, f"gen/x_{name}")
        assert relative_error(translated.images, images) < TOLERANCE
        assert relative_error(translated.cam_logits, recorded[f"gen/cam_{name}"]) < TOLERANCE
    for name, translated in back.items():
        images = images_of(recorded, f"gen/x_{name}")
        assert relative_error(translated.images, images) < RETURN_TOLERANCE
    heatmap = recorded["gen/heatmap_ab"]
    assert relative_error(found["ab"].heatmap.reshape(heatmap.shape), heatmap) < TOLERANCE


def test_images_of_a_batch_do_not_influence_each_other():
    generator = Generator(tiny_ugatit())
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    together = generator(images)
    for number, image in enumerate(images):
        alone = generator(image[None])
        torch.testing.assert_close(together.images[number], alone.images[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together.heatmap[number], alone.heatmap[0])


def test_a_light_generator_takes_any_multiple_of_four_and_a_full_one_its_own_size():
    light = Generator(tiny_ugatit(generator=GeneratorConfig(2, 1, light=True)))
    translated = light(torch.zeros(1, 3, 20, 48))
    assert translated.images.shape == (1, 3, 20, 48)
    assert translated.heatmap.shape == (1, 5, 12)
    assert translated.cam_logits.shape == (1, 2)
    with pytest.raises(ValueError, match="multiples of 4 from 8, got 20x50"):
        light(torch.zeros(1, 3, 20, 50))
    with pytest.raises(ValueError, match="images of 32x32 pixels, got 20x48"):
        Generator(tiny_ugatit())(torch.zeros(1, 3, 20, 48))


def test_any_width_number_of_blocks_and_number_of_colours_is_possible():
    config = tiny_ugatit(image_channels=1, generator=GeneratorConfig(3, 2, smoothing=False))
    assert Generator(config)(torch.zeros(2, 1, 32, 32)).images.shape == (2, 1, 32, 32)


def test_the_mixing_factors_are_put_back_into_their_range():
    generator = Generator(tiny_ugatit())
    factors = [p for name, p in generator.named_parameters() if name.endswith("rho")]
    assert factors
    for factor in factors:
        torch.nn.init.normal_(factor, std=3.0)
    generator.clip_rho()
    assert all(((p >= 0.0) & (p <= 1.0)).all() for p in factors)


def test_images_are_fp32_between_minus_one_and_one_under_autocast():
    generator = Generator(tiny_ugatit())
    images = torch.rand(1, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = generator(images)
    assert half.images.dtype == torch.float32
    assert float(half.images.detach().abs().max()) <= 1.0
    assert relative_error(half.cam_logits, generator(images).cam_logits) < 0.1
