"""Structure of the generator."""

from __future__ import annotations

import json

import pytest
import torch
from factories import Recorded, real_batch, relative_error, tiny_config

from fqgan.biggan.config import BigganConfig, DiscriminatorConfig, GeneratorConfig, QuantizerConfig
from fqgan.biggan.layers import SelfAttention
from fqgan.biggan.networks import build_discriminator, build_generator
from fqgan.quantizer import FeatureQuantizer
from fqgan.released.biggan import config_from_flags


@pytest.mark.parametrize("resolution", [16, 32, 64, 128, 256, 512])
@pytest.mark.parametrize("architecture", ["biggan", "biggan-deep"])
def test_every_resolution_has_images_of_its_size(resolution, architecture):
    own = GeneratorConfig(channels=4, latent_dim=16, hierarchical=True, shared_dim=4, depth=1)
    config = BigganConfig(
        resolution=resolution, architecture=architecture, init="none", generator=own,
        quantizer=QuantizerConfig(layers=(0,), codebook_size=4),
    )  # fmt: skip
    network = build_generator(config).eval()
    with torch.no_grad():
        images = network(torch.randn(1, network.latent_dim), torch.tensor([1]))
    assert images.shape == (1, 3, resolution, resolution)


def test_hierarchical_z_is_rounded_to_equal_chunks():
    own = GeneratorConfig(latent_dim=128, hierarchical=True, shared_dim=8, channels=8)
    assert build_generator(tiny_config(resolution=64, generator=own)).latent_dim == 125
    small = GeneratorConfig(latent_dim=3, hierarchical=True, shared_dim=8)
    with pytest.raises(ValueError, match="at least 5"):
        build_generator(tiny_config(resolution=64, generator=small))


def test_labels_and_their_vectors_give_the_same_image():
    own = GeneratorConfig(channels=4, latent_dim=8, hierarchical=True, shared_dim=6)
    network = build_generator(tiny_config(generator=own)).eval()
    z, y = torch.randn(2, 8), torch.tensor([0, 2])
    torch.testing.assert_close(network(z, y), network(z, network.embed(y)))


def test_images_do_not_depend_on_their_neighbours_in_eval_mode():
    network = build_generator(tiny_config()).eval()
    z, y = torch.randn(3, 8), torch.tensor([0, 1, 2])
    torch.testing.assert_close(network(z, y)[1:2], network(z[1:2], y[1:2]), atol=1e-5, rtol=1e-4)


def test_autocast_gives_images_near_those_of_fp32():
    network = build_generator(tiny_config(init="ortho")).eval()
    z, y = torch.randn(2, 8), torch.tensor([0, 1])
    exact = network(z, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(z, y)
    assert (exact - rough.float()).abs().mean() < 0.02


# Channels (of the width multiplier) and side of the map behind every block.
MAPS = {
    16: [(4, 8), (4, 8), (4, 8)],
    32: [(4, 16), (4, 8), (4, 8), (4, 8)],
    64: [(1, 32), (2, 16), (4, 8), (8, 4), (16, 4)],
    128: [(1, 64), (2, 32), (4, 16), (8, 8), (16, 4), (16, 4)],
    256: [(1, 128), (2, 64), (4, 32), (8, 16), (8, 8), (16, 4), (16, 4)],
}


@pytest.mark.parametrize("resolution", MAPS)
def test_a_digit_means_the_map_behind_that_block(resolution):
    layers = tuple(range(len(MAPS[resolution])))
    config = tiny_config(
        resolution=resolution, quantizer=QuantizerConfig(layers=layers, codebook_size=4)
    )
    network, shapes = build_discriminator(config), []
    for part in network.modules():
        if isinstance(part, FeatureQuantizer):
            part.register_forward_hook(lambda m, args, out: shapes.append(args[0].shape[1:]))
    images, labels = real_batch(config, 1)
    network(images, labels)
    assert shapes == [(4 * c, side, side) for c, side in MAPS[resolution]]


def test_attention_comes_after_the_quantizer():
    config = tiny_config(discriminator=DiscriminatorConfig(channels=8, attention=(16,)))
    stages = build_discriminator(config).blocks
    assert isinstance(stages[0][1], FeatureQuantizer)
    assert isinstance(stages[0][2], SelfAttention)
    assert isinstance(stages[1][1], SelfAttention)


def test_scores_do_not_depend_on_codes_unless_they_are_passed_on():
    scores = {}
    for forward in ("commit_only", "straight_through"):
        torch.manual_seed(0)
        config = tiny_config(
            init="ortho", quantizer=QuantizerConfig(layers=(0,), codebook_size=4, forward=forward)
        )
        network = build_discriminator(config).eval()
        batch = real_batch(config, 2)
        before = network(*batch).logits
        network.blocks[0][1].embed.mul_(100.0)
        scores[forward] = torch.equal(before, network(*batch).logits)
    assert scores == {"commit_only": True, "straight_through": False}


@pytest.mark.parametrize("architecture", ["biggan", "biggan-deep"])
def test_layers_and_resolutions_that_do_not_exist_are_refused(architecture):
    with pytest.raises(ValueError, match=r"--quantizer\.layers has 9"):
        build_discriminator(
            tiny_config(architecture=architecture, quantizer=QuantizerConfig(layers=(9,)))
        )
    with pytest.raises(ValueError, match="generator only"):
        build_discriminator(tiny_config(architecture=architecture, resolution=512))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_depth_runs_where_stages_change_width(depth):
    config = tiny_config(
        architecture="biggan-deep", resolution=64,
        generator=GeneratorConfig(channels=4, latent_dim=8, depth=depth),
        discriminator=DiscriminatorConfig(channels=4, depth=depth),
    )  # fmt: skip
    generator, discriminator = build_generator(config), build_discriminator(config)
    images = generator(torch.randn(2, 8), torch.tensor([0, 1]))
    assert images.shape == (2, 3, 64, 64)
    judged = discriminator(images, torch.tensor([0, 1]))
    assert judged.logits.shape == (2,)


def test_a_stage_is_quantized_behind_its_last_block():
    config = tiny_config(
        architecture="biggan-deep", quantizer=QuantizerConfig(layers=(1,), codebook_size=8)
    )
    network = build_discriminator(config)
    assert isinstance(network.blocks[1][2], FeatureQuantizer)
    judged = network(*real_batch(config, 2))
    assert judged.quantization_loss.min() > 0
    assert float(judged.codebook_perplexity) >= 1


IMAGE_TOLERANCE = 1e-3  # absolute, images are in [-1, 1]
SCORE_TOLERANCE = 1e-3  # relative
BUFFER_TOLERANCE = 1e-3  # relative


def networks(recorded):
    config = config_from_flags(recorded.json("cfg"))
    generator, discriminator = build_generator(config), build_discriminator(config)
    generator.load_state_dict(recorded.state("G"), strict=True)
    discriminator.load_state_dict(recorded.state("D"), strict=True)
    return generator.to(recorded.device), discriminator.to(recorded.device)


@pytest.mark.golden
@pytest.mark.cases("biggan/networks/*.npz")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_recorded_networks_give_the_same_images_and_scores(case, layout, device):
    recorded = Recorded(case, device)
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
def test_networks_recorded_in_eval_mode_only_give_the_same_images_and_scores(case, device):
    recorded = Recorded(case, device)
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


def test_orthogonal_weights_have_orthonormal_rows():
    weight = build_generator(tiny_config(init="ortho")).blocks[0][0].conv1.weight.flatten(1)
    torch.testing.assert_close(weight @ weight.t(), torch.eye(16), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("init", "deviation"), [("N02", 0.02), ("glorot", 0.083)])
def test_random_weights_have_their_deviation(init, deviation):
    weight = build_generator(tiny_config(init=init)).blocks[0][0].conv1.weight
    assert float(weight.detach().std()) == pytest.approx(deviation, rel=0.1)


def test_the_dictionary_is_not_touched():
    network = build_discriminator(tiny_config(init="N02"))
    assert float(network.blocks[0][1].embed.std()) == pytest.approx(1.0, rel=0.3)
