"""The networks of BigGAN and BigGAN-deep (Brock et al., ICLR 2019), D with feature quantization."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..quantizer import FeatureQuantizer
from ..spectral_norm import normalized_weights
from .config import BigganConfig, Norm
from .layers import (
    AffineNorm,
    DiscriminatorBlock,
    GeneratorBlock,
    LayerFactory,
    SelfAttention,
    discriminator_layers,
    generator_layers,
    initialize,
    stages,
    upsample,
)

# Width multipliers from the 4x4 image to the last block; every block doubles the size. 16 pixels,
# which the authors do not have, are 32 without the last block of G and one block of D.
WIDTHS = {
    16: (4, 4, 4),
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
        with normalized_weights(self):
            return self._draw(z, y)

    def _draw(self, z: Tensor, y: Tensor) -> Tensor:
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


class Stages(NamedTuple):
    """Width multipliers after each block, and the size that the attention option compares with."""

    widths: tuple[int, ...]
    down: int  # the first so many blocks halve the image
    sizes: tuple[int, ...]


# At 32 pixels the nominal size is 16 in all four blocks, so attention at 16 means four times.
STAGES = {
    16: Stages((4, 4, 4), 1, (8, 8, 8)),
    32: Stages((4, 4, 4, 4), 2, (16, 16, 16, 16)),
    64: Stages((1, 2, 4, 8, 16), 4, (32, 16, 8, 4, 4)),
    128: Stages((1, 2, 4, 8, 16, 16), 5, (64, 32, 16, 8, 4, 4)),
    256: Stages((1, 2, 4, 8, 8, 16, 16), 6, (128, 64, 32, 16, 8, 4, 4)),
}


class DiscriminatorOutput(NamedTuple):
    """What D says about a batch."""

    logits: Tensor  # (B,) high for real
    quantization_loss: Tensor  # (B,) summed over the quantized layers, weighted; 0 without any
    codebook_perplexity: Tensor  # () of the last quantized layer; 1 without any


class ProjectionDiscriminator(nn.Module):
    """Stages of blocks, quantizers and attention, then the projection head."""

    blocks: nn.ModuleList

    def add_head(self, channels: int, num_classes: int, layers: LayerFactory) -> None:
        self.linear = layers.linear(channels, 1)
        self.embed = layers.embedding(num_classes, channels)

    def judge(self, hidden: Tensor, labels: Tensor) -> DiscriminatorOutput:
        """Run all stages on ``hidden`` (B, C, H, W) and score it against ``labels`` (B,)."""
        losses, perplexity = [], None
        for stage in stages(self.blocks):
            for part in stage:
                if isinstance(part, FeatureQuantizer):
                    quantized = part(hidden)
                    hidden, perplexity = quantized.features, quantized.codebook_perplexity
                    losses.append(quantized.loss)
                else:
                    hidden = part(hidden)
        with torch.autocast(hidden.device.type, enabled=False):  # scores in fp32
            pooled = F.relu(hidden.float()).sum(dim=(2, 3))
            logits = self.linear(pooled).squeeze(1) + (self.embed(labels) * pooled).sum(dim=1)
        if perplexity is None:
            return DiscriminatorOutput(logits, torch.zeros_like(logits), logits.new_ones(()))
        return DiscriminatorOutput(logits, torch.stack(losses).sum(dim=0), perplexity)


class Discriminator(ProjectionDiscriminator):
    """Image and class to a score; block ``i`` is quantized where ``quantizer.layers`` has ``i``."""

    def __init__(self, config: BigganConfig) -> None:
        super().__init__()
        own, layers = config.discriminator, discriminator_layers(config)
        table = discriminator_stages(config)
        widths = [own.channels * factor for factor in table.widths]
        self.blocks = nn.ModuleList()
        for number, (inputs, outputs) in enumerate(zip([3, *widths], widths, strict=False)):
            block = DiscriminatorBlock(
                inputs, outputs, layers, wide=own.wide, first=number == 0,
                down=number < table.down,
            )  # fmt: skip
            stage = nn.ModuleList([block])
            extend_stage(stage, number, outputs, table.sizes[number], config, layers)
            self.blocks.append(stage)
        self.add_head(widths[-1], config.num_classes, layers)
        initialize(self, config.init)

    def forward(self, images: Tensor, labels: Tensor) -> DiscriminatorOutput:
        """Score ``images`` (B, 3, R, R) in [-1, 1] as members of classes ``labels`` (B,)."""
        with normalized_weights(self):
            return self.judge(images, labels)


def discriminator_stages(config: BigganConfig) -> Stages:
    """The table row of ``config``; raises ``ValueError`` for what no discriminator has."""
    if config.resolution not in STAGES:
        raise ValueError(
            f"--data.resolution {config.resolution} has a generator only; "
            f"discriminators exist for {', '.join(map(str, STAGES))}"
        )
    return STAGES[config.resolution]


def extend_stage(
    stage: nn.ModuleList, number: int, channels: int, size: int, config: BigganConfig,
    layers: LayerFactory,
) -> None:  # fmt: skip
    """Append the quantizer and the attention that block ``number`` is to have, in that order."""
    if number in config.quantizer.layers:
        stage.append(config.quantizer.build(channels, config.quantizer.codebook_size))
    if size in config.discriminator.attention:
        stage.append(SelfAttention(channels, layers))


RATIO = 4  # of the widths outside and inside of a block

# Widths from the stem to the last stage, how many stages halve the image, nominal sizes.
DEEP_STAGES: dict[int, tuple[tuple[int, ...], int, tuple[int, ...]]] = {
    16: ((4, 4, 4), 1, (8, 8)),
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
        with normalized_weights(self):
            return self._draw(z, y)

    def _draw(self, z: Tensor, y: Tensor) -> Tensor:
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
                f"--data.resolution {config.resolution} has a generator only; "
                f"discriminators exist for {', '.join(map(str, DEEP_STAGES))}"
            )
        factors, halvings, sizes = DEEP_STAGES[config.resolution]
        widths = [own.channels * factor for factor in factors]
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

    def forward(self, images: Tensor, labels: Tensor) -> DiscriminatorOutput:
        """Score ``images`` (B, 3, R, R) in [-1, 1] as members of classes ``labels`` (B,)."""
        with normalized_weights(self):
            return self.judge(self.input_conv(images), labels)


def build_generator(config: BigganConfig) -> Generator | DeepGenerator:
    """G with first weights from torch's global random state."""
    return DeepGenerator(config) if config.architecture == "biggan-deep" else Generator(config)


def build_discriminator(config: BigganConfig) -> Discriminator | DeepDiscriminator:
    """D, likewise; raises ``ValueError`` for resolutions and layers that it has not."""
    if config.architecture == "biggan-deep":
        return DeepDiscriminator(config)
    return Discriminator(config)
