"""BigGAN-deep beyond what was recorded: any depth, and quantization."""

from __future__ import annotations

import pytest
import torch
from factories import real_batch, tiny_config

from fqgan.biggan import (
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    build_discriminator,
    build_generator,
)
from fqgan.quantizer import FeatureQuantizer


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
