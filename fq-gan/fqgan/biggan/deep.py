"""BigGAN-deep: bottleneck blocks, z and class together in every norm layer; with quantization."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import BigganConfig
from .discriminator import Judged, ProjectionDiscriminator, check_layers, extend_stage
from .generator import WIDTHS, is_channels_last, last_norm
from .initialization import initialize
from .layers import (
    LayerFactory,
    SelfAttention,
    discriminator_layers,
    generator_layers,
    stages,
    upsample,
)
from .norms import AffineNorm

RATIO = 4  # of the widths outside and inside of a block

# Widths from the stem to the last stage, how many stages halve the image, nominal sizes.
DEEP_STAGES: dict[int, tuple[tuple[int, ...], int, tuple[int, ...]]] = {
    32: ((4, 4, 4, 4), 2, (16, 16, 16)),
    64: ((1, 2, 4, 8, 16), 4, (32, 16, 8, 4)),
    128: ((1, 2, 4, 8, 16, 16), 5, (64, 32, 16, 8, 4)),
    256: ((1, 2, 4, 8, 8, 16, 16), 6, (128, 64, 32, 16, 8, 4)),
}


class DeepGeneratorBlock(nn.Module):
    """Four convolutions; the shortcut drops channels: (B, I, H, W) -> (B, O, H or 2H, W or 2W)."""

    def __init__(
        self, inputs: int, outputs: int, layers: LayerFactory, *, condition_dim: int, up: bool
    ) -> None:
        super().__init__()
        self.outputs, self.up = outputs, up
        width = inputs // RATIO
        self.conv1 = layers.conv(inputs, width, 1)
        self.conv2 = layers.conv(width, width, 3)
        self.conv3 = layers.conv(width, width, 3)
        self.conv4 = layers.conv(width, outputs, 1)
        self.bn1 = layers.conditional_norm(inputs, condition_dim)
        self.bn2 = layers.conditional_norm(width, condition_dim)
        self.bn3 = layers.conditional_norm(width, condition_dim)
        self.bn4 = layers.conditional_norm(width, condition_dim)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        hidden = self.conv1(F.relu_(self.bn1(features, condition)))
        hidden = F.relu_(self.bn2(hidden, condition))
        shortcut = features[:, : self.outputs]
        if self.up:
            hidden, shortcut = upsample(hidden), upsample(shortcut)
        hidden = self.conv2(hidden)
        hidden = self.conv3(F.relu_(self.bn3(hidden, condition)))
        hidden = self.conv4(F.relu_(self.bn4(hidden, condition)))
        return hidden + shortcut


class DeepDiscriminatorBlock(nn.Module):
    """Four convolutions; the shortcut gains channels: (B, I, H, W) -> (B, O, H or H/2, ...)."""

    def __init__(self, inputs: int, outputs: int, layers: LayerFactory, *, down: bool) -> None:
        super().__init__()
        self.down = down
        width = outputs // RATIO
        self.conv1 = layers.conv(inputs, width, 1)
        self.conv2 = layers.conv(width, width, 3)
        self.conv3 = layers.conv(width, width, 3)
        self.conv4 = layers.conv(width, outputs, 1)
        if inputs != outputs:
            self.conv_sc = layers.conv(inputs, outputs - inputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.relu_(self.conv1(F.relu(features)))
        hidden = F.relu_(self.conv2(hidden))
        hidden = F.relu_(self.conv3(hidden))
        if self.down:
            hidden, features = F.avg_pool2d(hidden, 2), F.avg_pool2d(features, 2)
        if hasattr(self, "conv_sc"):
            features = torch.cat([features, self.conv_sc(features)], dim=1)
        return self.conv4(hidden) + features


class DeepGenerator(nn.Module):
    """As ``Generator``; hierarchical z means that all of z joins the class vector everywhere.

    Of the ``depth`` blocks of a stage the last one upsamples and changes the width; the authors'
    code does so for a depth of 2 only.
    """

    shared: nn.Embedding

    def __init__(self, config: BigganConfig) -> None:
        super().__init__()
        own, layers = config.generator, generator_layers(config)
        widths = [own.channels * factor for factor in WIDTHS[config.resolution]]
        self.num_classes, self.shared_dim = config.num_classes, own.shared_dim
        self.resolution, self.first_width = config.resolution, widths[0]
        self.hierarchical, self.latent_dim = own.hierarchical, own.latent_dim
        joined = own.shared_dim + own.latent_dim
        condition_dim = joined if own.hierarchical else own.shared_dim
        if own.shared_dim:
            self.shared = nn.Embedding(config.num_classes, own.shared_dim)
        first = joined if own.hierarchical else own.latent_dim
        self.linear = layers.linear(first, 16 * widths[0])
        self.blocks = nn.ModuleList()
        for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            for index in range(own.depth):
                last = index == own.depth - 1
                width = outputs if last else inputs
                block = DeepGeneratorBlock(
                    inputs, width, layers, condition_dim=condition_dim, up=last
                )
                stage = nn.ModuleList([block])
                if last and 2 ** (number + 3) in own.attention:
                    stage.append(SelfAttention(outputs, layers))
                self.blocks.append(stage)
        self.output_layer = nn.Sequential(
            AffineNorm(widths[-1], last_norm(own.norm)), nn.ReLU(), layers.conv(widths[-1], 3, 3)
        )
        initialize(self, config.init)

    def embed(self, y: Tensor) -> Tensor:
        """Class vectors (B, shared_dim) of labels (B,); the labels themselves where unshared."""
        return self.shared(y) if self.shared_dim else y

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Images (B, 3, R, R) in [-1, 1] of ``z`` (B, latent_dim) and labels or class vectors."""
        condition = y if y.is_floating_point() else self.embed(y)
        if self.hierarchical:
            z = condition = torch.cat([condition, z.to(condition.dtype)], dim=1)
        hidden = self.linear(z).view(len(z), self.first_width, 4, 4)
        if is_channels_last(self.output_layer):
            hidden = hidden.contiguous(memory_format=torch.channels_last)
        for block, *attention in stages(self.blocks):
            hidden = block(hidden, condition)
            for part in attention:
                hidden = part(hidden)
        return torch.tanh(self.output_layer(hidden))


class DeepDiscriminator(ProjectionDiscriminator):
    """As ``Discriminator``; ``quantizer.layers`` counts stages, each of ``depth`` blocks."""

    def __init__(self, config: BigganConfig) -> None:
        super().__init__()
        own, layers = config.discriminator, discriminator_layers(config)
        if config.resolution not in DEEP_STAGES:
            raise ValueError(
                f"--resolution {config.resolution} has a generator only; "
                f"discriminators exist for {', '.join(map(str, DEEP_STAGES))}"
            )
        factors, halvings, sizes = DEEP_STAGES[config.resolution]
        widths = [own.channels * factor for factor in factors]
        check_layers(config, len(widths) - 1)
        self.input_conv = layers.conv(3, widths[0], 3)
        self.blocks = nn.ModuleList()
        for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            stage = nn.ModuleList()
            for index in range(own.depth):
                stage.append(
                    DeepDiscriminatorBlock(
                        outputs if index else inputs, outputs, layers,
                        down=number < halvings and index == 0,
                    )
                )  # fmt: skip
            size = sizes[min(number, len(sizes) - 1)]
            extend_stage(stage, number, outputs, size, config, layers)
            self.blocks.append(stage)
        self.add_head(widths[-1], config.num_classes, layers)
        initialize(self, config.init)

    def forward(self, images: Tensor, labels: Tensor) -> Judged:
        """Score ``images`` (B, 3, R, R) in [-1, 1] as members of classes ``labels`` (B,)."""
        return self.judge(self.input_conv(images), labels)
