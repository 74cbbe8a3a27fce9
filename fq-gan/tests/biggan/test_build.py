"""Whole generators and discriminators against recorded forward passes."""

from __future__ import annotations

import json

import pytest
import torch
from factories import Recorded, relative_error

from fqgan.biggan import build_discriminator, build_generator
from fqgan.released.biggan import config_from_flags

IMAGE_TOLERANCE = 1e-3  # absolute, images are in [-1, 1]
SCORE_TOLERANCE = 1e-3  # relative
BUFFER_TOLERANCE = 1e-3  # relative


def networks(recorded):
    config = config_from_flags(recorded.json("cfg"))
    generator, discriminator = build_generator(config), build_discriminator(config)
    generator.load_state_dict(recorded.state("G"), strict=True)
    discriminator.load_state_dict(recorded.state("D"), strict=True)
    return generator, discriminator


@pytest.mark.golden
@pytest.mark.cases("biggan/networks/*.npz")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_recorded_networks_give_the_same_images_and_scores(case, layout):
    recorded = Recorded(case)
    if "eval/G_out" not in recorded.names:
        pytest.skip("eval mode only, see the next test")
    generator, discriminator = networks(recorded)
    generator.to(memory_format=layout)
    discriminator.to(memory_format=layout)
    z, y, x = recorded["z"], recorded["y"], recorded["x"].contiguous(memory_format=layout)
    assert generator.latent_dim == int(recorded["dim_z"])
    for mode, training in (("eval", False), ("train", True)):
        with torch.no_grad():
            images = generator.train(training)(z, y)
            judged = discriminator.train(training)(x, y)
        assert (images - recorded[f"{mode}/G_out"]).abs().max() < IMAGE_TOLERANCE
        scores = recorded[f"{mode}/D_out"].flatten()
        assert relative_error(judged.logits, scores) < SCORE_TOLERANCE
        loss = recorded[f"{mode}/quant_loss"].flatten()
        assert relative_error(judged.quantization_loss, loss) < SCORE_TOLERANCE
        assert relative_error(judged.codebook_perplexity, recorded[f"{mode}/ppl"]) < 1e-3
    for letter, network in (("G", generator), ("D", discriminator)):
        state = network.state_dict()
        for name, theirs in recorded.state(f"train/{letter}_buf").items():
            assert relative_error(state[name], theirs) < BUFFER_TOLERANCE, name


@pytest.mark.golden
@pytest.mark.cases("biggan/networks/*.npz")
def test_networks_recorded_in_eval_mode_only_give_the_same_images_and_scores(case):
    recorded = Recorded(case)
    if "G_out" not in recorded.names:
        pytest.skip("both modes, see the test before")
    generator, discriminator = networks(recorded)
    with torch.no_grad():
        images = generator.eval()(recorded["z"], recorded["y"])
        judged = discriminator.eval()(recorded["x"], recorded["y"])
    assert (images - recorded["G_out"]).abs().max() < IMAGE_TOLERANCE
    assert relative_error(judged.logits, recorded["D_out"].flatten()) < SCORE_TOLERANCE


@pytest.mark.golden
@pytest.mark.cases("biggan/networks/*_state_dict.json")
def test_state_dicts_have_the_recorded_names_shapes_and_parameter_order(case):
    listed = json.loads(case.read_text())
    arrays = case.with_name(case.name.replace("_state_dict.json", ".npz"))
    if not arrays.exists():
        pytest.skip(f"{arrays.name}, which has the settings, is absent")
    config = config_from_flags(Recorded(arrays).json("cfg"))
    for letter, network in (("G", build_generator(config)), ("D", build_discriminator(config))):
        ours = {
            name: [str(value.dtype).removeprefix("torch."), list(value.shape)]
            for name, value in network.state_dict().items()
        }
        assert ours == {name: list(entry) for name, entry in listed[letter].items()}
        assert list(ours) == list(listed[letter])
        order = [name for name, _ in network.named_parameters()]
        assert order == listed[f"{letter}_param_order"]
