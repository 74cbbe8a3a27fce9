"""BigGAN's projection discriminator, 32 to 256 pixels, with feature quantization (Sec. 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..quantizer import FeatureQuantizer
from .config import BigganConfig
from .initialization import initialize
from .layers import DiscriminatorBlock, LayerFactory, SelfAttention, discriminator_layers, stages


class Stages(NamedTuple):
    """Width multipliers after each block, and the size that the attention option compares with."""

    widths: tuple[int, ...]
    down: int  # the first so many blocks halve the image
    sizes: tuple[int, ...]


# At 32 pixels the nominal size is 16 in all four blocks, so attention at 16 means four times.
STAGES = {
    32: Stages((4, 4, 4, 4), 2, (16, 16, 16, 16)),
    64: Stages((1, 2, 4, 8, 16), 4, (32, 16, 8, 4, 4)),
    128: Stages((1, 2, 4, 8, 16, 16), 5, (64, 32, 16, 8, 4, 4)),
    256: Stages((1, 2, 4, 8, 8, 16, 16), 6, (128, 64, 32, 16, 8, 4, 4)),
}


class Judged(NamedTuple):
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

    def judge(self, hidden: Tensor, labels: Tensor) -> Judged:
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
            return Judged(logits, torch.zeros_like(logits), logits.new_ones(()))
        return Judged(logits, torch.stack(losses).sum(dim=0), perplexity)


class Discriminator(ProjectionDiscriminator):
    """Image and class to a score; block ``i`` is quantized where ``quantizer.layers`` has ``i``."""

    def __init__(self, config: BigganConfig) -> None:
        super().__init__()
        own, layers = config.discriminator, discriminator_layers(config)
        table = discriminator_stages(config)
        widths = [own.channels * factor for factor in table.widths]
        check_layers(config, len(widths))
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

    def forward(self, images: Tensor, labels: Tensor) -> Judged:
        """Score ``images`` (B, 3, R, R) in [-1, 1] as members of classes ``labels`` (B,)."""
        return self.judge(images, labels)


def discriminator_stages(config: BigganConfig) -> Stages:
    """The table row of ``config``; raises ``ValueError`` for what no discriminator has."""
    if config.resolution not in STAGES:
        raise ValueError(
            f"--resolution {config.resolution} has a generator only; "
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


def check_layers(config: BigganConfig, number: int) -> None:
    """Say which blocks of a discriminator with ``number`` of them can be quantized."""
    wrong = [layer for layer in config.quantizer.layers if layer >= number]
    if wrong:
        raise ValueError(
            f"--quantizer.layers has {wrong[0]}, but at resolution {config.resolution} "
            f"the blocks are 0 to {number - 1}"
        )
