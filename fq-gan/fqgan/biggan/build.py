"""Networks from their settings."""

from __future__ import annotations

from .config import BigganConfig
from .deep import DeepDiscriminator, DeepGenerator
from .discriminator import Discriminator
from .generator import Generator


def build_generator(config: BigganConfig) -> Generator | DeepGenerator:
    """G with first weights from torch's global random state."""
    return DeepGenerator(config) if config.architecture == "biggan-deep" else Generator(config)


def build_discriminator(config: BigganConfig) -> Discriminator | DeepDiscriminator:
    """D, likewise; raises ``ValueError`` for resolutions and layers that it has not."""
    if config.architecture == "biggan-deep":
        return DeepDiscriminator(config)
    return Discriminator(config)
