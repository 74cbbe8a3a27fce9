"""BigGAN's generator, 32 to 512 pixels."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from .config import BigganConfig, Norm
from .initialization import initialize
from .layers import GeneratorBlock, SelfAttention, generator_layers, stages
from .norms import AffineNorm

# Width multipliers from the 4x4 image to the last block; every block doubles the size.
WIDTHS = {
    32: (4, 4, 4, 4),
    64: (16, 16, 8, 4, 2),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
    512: (16, 16, 8, 8, 4, 2, 1, 1),
}


class Generator(nn.Module):
    """z and class to an image.

    Args:
        config: both networks; ``generator.hierarchical`` cuts z into one chunk for the first
            layer and one per block, in that order.
    """

    shared: nn.Embedding

    def __init__(self, config: BigganConfig) -> None:
        super().__init__()
        own, layers = config.generator, generator_layers(config)
        widths = [own.channels * factor for factor in WIDTHS[config.resolution]]
        pairs = list(itertools.pairwise(widths))
        self.num_classes, self.shared_dim = config.num_classes, own.shared_dim
        self.resolution, self.first_width = config.resolution, widths[0]
        chunks = len(pairs) + 1 if own.hierarchical else 1
        self.chunk = own.latent_dim // chunks
        if self.chunk < 1:
            raise ValueError(
                f"--generator.latent-dim {own.latent_dim} is too small for {chunks} chunks; "
                f"set it to at least {chunks}"
            )
        self.hierarchical = own.hierarchical
        self.latent_dim = self.chunk * chunks
        condition_dim = own.shared_dim + (self.chunk if own.hierarchical else 0)
        if own.shared_dim:
            self.shared = nn.Embedding(config.num_classes, own.shared_dim)
        self.linear = layers.linear(self.chunk, 16 * widths[0])
        self.blocks = nn.ModuleList()
        for number, (inputs, outputs) in enumerate(pairs):
            block = GeneratorBlock(inputs, outputs, layers, condition_dim=condition_dim)
            stage = nn.ModuleList([block])
            if 2 ** (number + 3) in own.attention:
                stage.append(SelfAttention(outputs, layers))
            self.blocks.append(stage)
        # The last norm layer ignores bn_eps, as in the authors' code.
        self.output_layer = nn.Sequential(
            AffineNorm(widths[-1], last_norm(own.norm)), nn.ReLU(), layers.conv(widths[-1], 3, 3)
        )
        initialize(self, config.init)

    def embed(self, y: Tensor) -> Tensor:
        """Class vectors (B, shared_dim) of labels (B,); the labels themselves where unshared."""
        return self.shared(y) if self.shared_dim else y

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Images (B, 3, R, R) in [-1, 1].

        Args:
            z: (B, ``latent_dim``).
            y: labels (B,), or class vectors (B, ``shared_dim``), for instance mixtures of classes.
        """
        condition = y if y.is_floating_point() else self.embed(y)
        first, *rest = z.split(self.chunk, dim=1)
        hidden = self.linear(first).view(len(z), self.first_width, 4, 4)
        if is_channels_last(self.output_layer):
            hidden = hidden.contiguous(memory_format=torch.channels_last)
        for number, (block, *attention) in enumerate(stages(self.blocks)):
            own = condition
            if self.hierarchical:
                own = torch.cat([condition, rest[number].to(condition.dtype)], dim=1)
            hidden = block(hidden, own)
            for part in attention:
                hidden = part(hidden)
        return torch.tanh(self.output_layer(hidden))


def is_channels_last(network: nn.Module) -> bool:
    """Whether the weights of ``network`` are stored channels_last, so its features should be."""
    weights = (p for p in network.parameters() if p.ndim == 4)
    return all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


def last_norm(norm: Norm) -> Norm:
    """Norm in front of the last convolution: bn where the blocks have no batch statistics."""
    return norm if norm in ("mybn", "sync-bn") else "bn"
