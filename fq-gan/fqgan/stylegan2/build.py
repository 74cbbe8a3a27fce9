"""Networks from their settings."""

from __future__ import annotations

from torch import nn

from .config import Stylegan2Config
from .discriminator import Discriminator
from .generator import Generator
from .legacy import (
    GrowingDiscriminator,
    GrowingSynthesis,
    StyleGan1Discriminator,
    StyleGan1Mapping,
    StyleGan1Synthesis,
)
from .synthesis import SynthesisNetwork

SYNTHESIS = {"growing": GrowingSynthesis, "stylegan1": StyleGan1Synthesis}
DISCRIMINATORS = {"growing": GrowingDiscriminator, "stylegan1": StyleGan1Discriminator}


def build_generator(config: Stylegan2Config) -> Generator:
    """G with first weights from torch's global random state."""
    architecture = config.generator.architecture
    generator = Generator(config, SYNTHESIS.get(architecture, SynthesisNetwork)(config))
    if architecture == "stylegan1":
        generator.mapping = StyleGan1Mapping(config.mapping, config.label_size)
    return generator


def build_discriminator(config: Stylegan2Config) -> nn.Module:
    """D, likewise."""
    return DISCRIMINATORS.get(config.discriminator.architecture, Discriminator)(config)
