"""Generators against recorded ones, and what they refuse."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from factories import Recorded, relative_error
from ugatit_cases import (
    domains_of,
    image_pair,
    images_of,
    recorded_networks,
    recorded_states,
    tiny_networks,
)

from fqgan.quantizer import quantizer_statistics
from fqgan.spectral_norm import normalized_weights
from fqgan.ugatit.config import DiscriminatorConfig, GeneratorConfig, QuantizerConfig
from fqgan.ugatit.networks import Discriminator, Generator, build_networks

TOLERANCE = 1e-3  # relative; 20 layers
RETURN_TOLERANCE = 2e-3  # there and back


@pytest.mark.golden
@pytest.mark.cases("ugatit/ugatit_small_*.npz")
def test_translations_agree_with_the_recorded_ones(case, device):
    recorded = Recorded(case, device)
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
    generator = Generator(tiny_networks())
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    together = generator(images)
    for number, image in enumerate(images):
        alone = generator(image[None])
        torch.testing.assert_close(together.images[number], alone.images[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together.heatmap[number], alone.heatmap[0])


def test_a_light_generator_takes_any_multiple_of_four_and_a_full_one_its_own_size():
    light = Generator(tiny_networks(generator=GeneratorConfig(2, 1, light=True)))
    translated = light(torch.zeros(1, 3, 20, 48))
    assert translated.images.shape == (1, 3, 20, 48)
    assert translated.heatmap.shape == (1, 5, 12)
    assert translated.cam_logits.shape == (1, 2)
    with pytest.raises(ValueError, match="multiples of 4 from 8, got 20x50"):
        light(torch.zeros(1, 3, 20, 50))
    with pytest.raises(ValueError, match="images of 32x32 pixels, got 20x48"):
        Generator(tiny_networks())(torch.zeros(1, 3, 20, 48))


def test_any_width_number_of_blocks_and_number_of_colours_is_possible():
    config = tiny_networks(image_channels=1, generator=GeneratorConfig(3, 2, smoothing=False))
    assert Generator(config)(torch.zeros(2, 1, 32, 32)).images.shape == (2, 1, 32, 32)


def test_the_mixing_factors_are_put_back_into_their_range():
    generator = Generator(tiny_networks())
    factors = [p for name, p in generator.named_parameters() if name.endswith("rho")]
    assert factors
    for factor in factors:
        torch.nn.init.normal_(factor, std=3.0)
    generator.clip_rho()
    assert all(((p >= 0.0) & (p <= 1.0)).all() for p in factors)


def test_images_are_fp32_between_minus_one_and_one_under_autocast():
    generator = Generator(tiny_networks())
    images = torch.rand(1, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = generator(images)
    assert half.images.dtype == torch.float32
    assert float(half.images.detach().abs().max()) <= 1.0
    assert relative_error(half.cam_logits, generator(images).cam_logits) < 0.1


DICTIONARY_TOLERANCE = 2e-3
SMALL = pytest.mark.cases("ugatit/ugatit_small_*.npz")


def inputs(recorded):
    """Judge's name, kind and image batch, in the order in which dictionaries were recorded."""
    a, b = domains_of(recorded)
    fake_a, fake_b = images_of(recorded, "gen/x_ba"), images_of(recorded, "gen/x_ab")
    return {
        "real": (("judge_a", "A", a), ("judge_b", "B", b)),
        "fake": (("judge_a", "A", fake_a), ("judge_b", "B", fake_b)),
    }


@pytest.mark.golden
@SMALL
def test_logits_losses_and_dictionaries_agree_with_the_recorded_ones(case, device):
    recorded = Recorded(case, device)
    networks = recorded_networks(recorded)
    for kind, batches in inputs(recorded).items():
        loss, perplexities = torch.zeros((), device=device), []
        for name, letter, images in batches:
            judged = getattr(networks, name)(images)
            start = f"disc/{kind}_{letter}"
            for ours, theirs in (
                (judged.local_logits, images_of(recorded, f"{start}/local")),
                (judged.global_logits, images_of(recorded, f"{start}/global")),
                (judged.local_cam, recorded[f"{start}/cam_local"]),
                (judged.global_cam, recorded[f"{start}/cam_global"]),
            ):
                assert relative_error(ours, theirs) < TOLERANCE
            loss = loss + judged.quantization_loss.mean()
            perplexities.append(float(judged.codebook_perplexity))
        assert relative_error(loss, recorded[f"vq_{kind}/quant_loss"]) < TOLERANCE
        # The authors report the sum of both on real images and the mean on translated ones.
        total = sum(perplexities) / (2.0 if kind == "fake" else 1.0)
        assert total == pytest.approx(float(recorded[f"vq_{kind}/ppl"]), rel=TOLERANCE)
        compare_dictionaries(networks, recorded_states(recorded, f"vq_{kind}/after"))


def compare_dictionaries(networks, states):
    compared = 0
    for name, state in states.items():
        own = getattr(networks, name).state_dict()
        for key, value in state.items():
            if ".quantizers." in key:
                assert relative_error(own[key], value) < DICTIONARY_TOLERANCE, key
                compared += 1
    assert compared


def test_spectral_norms_taken_together_change_a_judgement_by_rounding_alone(monkeypatch):
    alone, images = Discriminator(tiny_networks()), image_pair(tiny_networks(), 2)[0]
    together, found = copy.deepcopy(alone), [alone(images)]
    way = partial(normalized_weights, together=True)
    monkeypatch.setattr("fqgan.ugatit.networks.normalized_weights", way)
    found.append(together(images))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_real_and_translated_images_in_one_pass_move_the_dictionary_as_in_two():
    judge = Discriminator(
        tiny_networks(discriminator=DiscriminatorConfig(2, 4, spectral_norm=False))
    )
    twin = copy.deepcopy(judge)
    real, fake = image_pair(tiny_networks(), 2)
    first, second = judge(torch.cat([real, fake]), parts=2).halves()
    for ours, theirs in ((first, twin(real)), (second, twin(fake))):
        for one, other in zip(ours[:5], theirs[:5], strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    for name, value in judge.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name], atol=1e-6, rtol=1e-4)
    assert float(judge.global_branch.quantizers["1"].steps) == 2.0


def test_quantizers_can_be_left_out_of_a_pass_and_of_the_network():
    config = tiny_networks()
    judge, images = Discriminator(config), image_pair(config)[0]
    judged = judge(images, quantize=False)
    assert float(judged.quantization_loss.sum()) == 0.0
    assert float(judge.global_branch.quantizers["1"].steps) == 0.0
    plain = Discriminator(tiny_networks(quantizer=QuantizerConfig(layers=())))
    assert not any("quantizers" in name for name in plain.state_dict())
    assert float(plain(images).codebook_perplexity) == 1.0


def test_codes_are_passed_on_where_that_is_asked_for():
    config = tiny_networks(
        quantizer=QuantizerConfig(layers=(1,), codebook_size=4, forward="straight_through")
    )
    judge, images = Discriminator(config).eval(), image_pair(config, 2)[0]
    codes = judge(images, parts=2).global_logits
    assert not torch.allclose(codes, judge(images, quantize=False).global_logits)


def test_every_dictionary_is_named_in_the_diagnostics():
    judge = Discriminator(tiny_networks())
    judge(image_pair(tiny_networks())[0])
    assert set(quantizer_statistics(judge)) == {
        f"global_branch.quantizers.{layer}/{name}"
        for layer in (1, 2)
        for name in (
            *("codebook_perplexity", "usage", "average_perplexity", "average_usage"),
            *("dead", "replaced", "left_out"),
        )
    }


def test_one_seed_gives_one_set_of_networks():
    torch.manual_seed(3)
    first = build_networks(tiny_networks()).state_dict()
    torch.manual_seed(3)
    second = build_networks(tiny_networks()).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert {name.partition(".")[0] for name in first} == {"a_to_b", "b_to_a", "judge_a", "judge_b"}


def test_weights_begin_normal_and_biases_zero():
    networks = build_networks(tiny_networks())
    kernel = networks.a_to_b.style[0].weight.detach()
    assert abs(float(kernel.std()) - 0.02) < 0.002
    assert float(networks.judge_a.global_branch.convs[0].bias.detach().abs().sum()) == 0.0
    assert networks.generators() == (networks.a_to_b, networks.b_to_a)
    assert networks.discriminators() == (networks.judge_a, networks.judge_b)
