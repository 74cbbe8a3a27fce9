"""Networks from their settings."""

from __future__ import annotations

from torch import nn

from .config import Stylegan2Config
from .discriminator import Discriminator
from .generator import Generator
from .synthesis import SynthesisNetwork


def build_generator(config: Stylegan2Config) -> Generator:
    """G with first weights from torch's global random state."""
    return Generator(config, SynthesisNetwork(config))


def build_discriminator(config: Stylegan2Config) -> nn.Module:
    """D, likewise."""
    return Discriminator(config)
