"""Discriminators against recorded ones, and the dictionaries inside."""

from __future__ import annotations

import copy

import pytest
import torch
from factories import Recorded, relative_error
from ugatit_cases import (
    domains_of,
    image_pair,
    images_of,
    recorded_networks,
    recorded_states,
    tiny_ugatit,
)

from fqgan.quantizer import quantizer_statistics
from fqgan.ugatit import Discriminator, DiscriminatorConfig, QuantizerConfig

TOLERANCE = 1e-3
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
def test_logits_losses_and_dictionaries_agree_with_the_recorded_ones(case):
    recorded = Recorded(case)
    networks = recorded_networks(recorded)
    for kind, batches in inputs(recorded).items():
        loss, perplexities = torch.zeros(()), []
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


def test_real_and_translated_images_in_one_pass_move_the_dictionary_as_in_two():
    judge = Discriminator(tiny_ugatit(discriminator=DiscriminatorConfig(2, 4, spectral_norm=False)))
    twin = copy.deepcopy(judge)
    real, fake = image_pair(tiny_ugatit(), 2)
    first, second = judge(torch.cat([real, fake]), parts=2).halves()
    for ours, theirs in ((first, twin(real)), (second, twin(fake))):
        for one, other in zip(ours[:5], theirs[:5], strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    for name, value in judge.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name], atol=1e-6, rtol=1e-4)
    assert float(judge.global_branch.quantizers["1"].steps) == 2.0


def test_quantizers_can_be_left_out_of_a_pass_and_of_the_network():
    config = tiny_ugatit()
    judge, images = Discriminator(config), image_pair(config)[0]
    judged = judge(images, quantize=False)
    assert float(judged.quantization_loss.sum()) == 0.0
    assert float(judge.global_branch.quantizers["1"].steps) == 0.0
    plain = Discriminator(tiny_ugatit(quantizer=QuantizerConfig(layers=())))
    assert not any("quantizers" in name for name in plain.state_dict())
    assert float(plain(images).codebook_perplexity) == 1.0


def test_codes_are_passed_on_where_that_is_asked_for():
    config = tiny_ugatit(
        quantizer=QuantizerConfig(layers=(1,), codebook_size=4, forward="straight_through")
    )
    judge, images = Discriminator(config).eval(), image_pair(config, 2)[0]
    codes = judge(images, parts=2).global_logits
    assert not torch.allclose(codes, judge(images, quantize=False).global_logits)


def test_every_dictionary_is_named_in_the_diagnostics():
    judge = Discriminator(tiny_ugatit())
    judge(image_pair(tiny_ugatit())[0])
    assert set(quantizer_statistics(judge)) == {
        f"global_branch.quantizers.{layer}/{name}"
        for layer in (1, 2)
        for name in ("codebook_perplexity", "usage", "dead")
    }
