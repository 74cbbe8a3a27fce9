"""Residual blocks and attention of BigGAN (Brock et al., ICLR 2019), and what they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..spectral_norm import SpectralConv2d, SpectralEmbedding, SpectralLinear
from .config import BigganConfig, Norm
from .norms import ConditionalNorm


@dataclass(frozen=True)
class LayerFactory:
    """Makes the layers of one network in one style."""

    spectral: bool
    vectors: int
    iterations: int
    sn_eps: float
    norm: Norm = "bn"
    bn_eps: float = 1e-5
    num_classes: int = 0

    def conv(self, inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> nn.Conv2d:
        """Convolution that keeps the size of the image; ``kernel`` is odd."""
        padding = kernel // 2
        if not self.spectral:
            return nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=bias)
        return SpectralConv2d(
            inputs, outputs, kernel, padding=padding, bias=bias, **self._spectrum()
        )

    def linear(self, inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
        if not self.spectral:
            return nn.Linear(inputs, outputs, bias=bias)
        return SpectralLinear(inputs, outputs, bias=bias, **self._spectrum())

    def embedding(self, number: int, size: int) -> nn.Embedding:
        if not self.spectral:
            return nn.Embedding(number, size)
        return SpectralEmbedding(number, size, **self._spectrum())

    def conditional_norm(self, channels: int, condition_dim: int) -> ConditionalNorm:
        """Norm layer conditioned on vectors, or on labels where ``condition_dim`` is 0."""
        gain, bias = (
            self.linear(condition_dim, channels, bias=False)
            if condition_dim
            else nn.Embedding(self.num_classes, channels)
            for _ in range(2)
        )
        return ConditionalNorm(channels, gain, bias, self.norm, self.bn_eps)

    def _spectrum(self) -> dict[str, Any]:
        return {"vectors": self.vectors, "iterations": self.iterations, "eps": self.sn_eps}


def generator_layers(config: BigganConfig) -> LayerFactory:
    own = config.generator
    return LayerFactory(
        own.spectral_norm, own.singular_vectors, own.power_iterations, config.sn_eps, own.norm,
        config.bn_eps, config.num_classes,
    )  # fmt: skip


def discriminator_layers(config: BigganConfig) -> LayerFactory:
    own = config.discriminator
    return LayerFactory(True, own.singular_vectors, own.power_iterations, config.sn_eps)


def stages(blocks: nn.ModuleList) -> Iterator[list[nn.Module]]:
    """The parts of each stage, in the order in which they are run."""
    for stage in blocks:
        assert isinstance(stage, nn.ModuleList)
        yield list(stage)


def upsample(features: Tensor) -> Tensor:
    """Nearest neighbour, twice as high and wide."""
    return F.interpolate(features, scale_factor=2.0)


class GeneratorBlock(nn.Module):
    """norm-relu-up-conv-norm-relu-conv plus a 1x1 shortcut: (B, I, H, W) -> (B, O, 2H, 2W)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        layers: LayerFactory,
        *,
        condition_dim: int,
        up: bool = True,
    ) -> None:
        super().__init__()
        self.up = up
        self.conv1 = layers.conv(inputs, outputs, 3)
        self.conv2 = layers.conv(outputs, outputs, 3)
        if up or inputs != outputs:
            self.conv_sc = layers.conv(inputs, outputs, 1)
        self.bn1 = layers.conditional_norm(inputs, condition_dim)
        self.bn2 = layers.conditional_norm(outputs, condition_dim)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        hidden = F.relu_(self.bn1(features, condition))
        hidden = self.conv1(upsample(hidden) if self.up else hidden)
        hidden = self.conv2(F.relu_(self.bn2(hidden, condition)))
        # A 1x1 convolution of the small image gives the same values as one of the large image.
        shortcut = self.conv_sc(features) if hasattr(self, "conv_sc") else features
        return hidden + (upsample(shortcut) if self.up else shortcut)


class DiscriminatorBlock(nn.Module):
    """(relu-)conv-relu-conv plus shortcut: (B, I, H, W) -> (B, O, H/2, W/2) or (B, O, H, W)."""

    def __init__(
        self, inputs: int, outputs: int, layers: LayerFactory, *, wide: bool = True,
        first: bool = False, down: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.first, self.down = first, down
        width = outputs if wide else inputs
        self.conv1 = layers.conv(inputs, width, 3)
        self.conv2 = layers.conv(width, outputs, 3)
        if down or inputs != outputs:
            self.conv_sc = layers.conv(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.conv1(features if self.first else F.relu(features))
        hidden = self.conv2(F.relu_(hidden))
        # Pooling and a 1x1 convolution commute; pooled first, the convolution costs a quarter.
        if self.down:
            hidden, features = F.avg_pool2d(hidden, 2), F.avg_pool2d(features, 2)
        return hidden + (self.conv_sc(features) if hasattr(self, "conv_sc") else features)


class SelfAttention(nn.Module):
    """Attention over positions, keys and values pooled 2x2 (Zhang et al., ICML 2019)."""

    def __init__(self, channels: int, layers: LayerFactory) -> None:
        super().__init__()
        if channels < 8:
            raise ValueError(f"attention needs at least 8 channels, the block has {channels}")
        self.theta = layers.conv(channels, channels // 8, 1, bias=False)
        self.phi = layers.conv(channels, channels // 8, 1, bias=False)
        self.g = layers.conv(channels, channels // 2, 1, bias=False)
        self.o = layers.conv(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        query = self.theta(features).flatten(2).mT  # (B, HW, C/8)
        key = F.max_pool2d(self.phi(features), 2).flatten(2).mT  # (B, HW/4, C/8)
        value = F.max_pool2d(self.g(features), 2).flatten(2).mT  # (B, HW/4, C/2)
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)  # (B, HW, C/2)
        mixed = mixed.mT.unflatten(2, features.shape[2:])
        return torch.addcmul(features, self.gamma.to(features.dtype), self.o(mixed))
