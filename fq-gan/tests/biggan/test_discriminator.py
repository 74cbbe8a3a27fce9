"""Structure of the discriminator and the place of its quantizers."""

from __future__ import annotations

import pytest
import torch
from factories import real_batch, tiny_config

from fqgan.biggan import DiscriminatorConfig, QuantizerConfig, build_discriminator
from fqgan.biggan.layers import SelfAttention
from fqgan.quantizer import FeatureQuantizer

# Channels (of the width multiplier) and side of the map behind every block.
MAPS = {
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
