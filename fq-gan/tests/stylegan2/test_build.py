"""Networks from their settings."""

from __future__ import annotations

import pytest
from stylegan_cases import tiny_config

from fqgan.stylegan2 import (
    DiscriminatorConfig,
    GeneratorConfig,
    build_discriminator,
    build_generator,
)


@pytest.mark.parametrize("architecture", ["skip", "growing", "stylegan1"])
def test_every_architecture_is_built(architecture):
    judge = "resnet" if architecture == "skip" else architecture
    config = tiny_config(
        (),
        generator=GeneratorConfig(architecture, channel_base=64, channel_max=8),
        discriminator=DiscriminatorConfig(judge, channel_base=64, channel_max=8),
    )
    assert build_generator(config).num_layers == 6
    assert sum(p.numel() for p in build_discriminator(config).parameters()) > 0
