"""The four networks of one pair of domains."""

from __future__ import annotations

from torch import nn

from .config import UgatitConfig
from .discriminator import Discriminator
from .generator import Generator


class UgatitNetworks(nn.Module):
    """Two generators and two discriminators.

    ``a_to_b`` is called ``generator_B`` in the authors' code, ``b_to_a`` ``generator_A``;
    ``judge_a`` tells images of domain A from translated ones (``discriminator_A``).
    """

    def __init__(self, config: UgatitConfig) -> None:
        super().__init__()
        self.config = config
        self.a_to_b, self.b_to_a = Generator(config), Generator(config)
        self.judge_a, self.judge_b = Discriminator(config), Discriminator(config)

    def generators(self) -> tuple[Generator, Generator]:
        """A to B, B to A."""
        return self.a_to_b, self.b_to_a

    def discriminators(self) -> tuple[Discriminator, Discriminator]:
        """Of A, of B."""
        return self.judge_a, self.judge_b


def build_networks(config: UgatitConfig) -> UgatitNetworks:
    """All four, with first weights from torch's global random state."""
    return UgatitNetworks(config)
