"""StyleGAN2's discriminator with feature quantization at any of its resolutions."""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ..quantizer import FeatureQuantizer
from .config import QuantizerConfig, Stylegan2Config, channels_at
from .layers import EqualConv2d, EqualLinear
from .mapping import label_vectors
from .ops import downsample2d, fir_kernel, minibatch_deviation


class Judged(NamedTuple):
    """What D says about a batch."""

    logits: Tensor  # (B,) high for real
    quantization_loss: Tensor  # (B,) summed over the quantized layers, weighted; 0 without any
    codebook_perplexity: Tensor  # () of the last quantized layer; 1 without any


class DiscriminatorBlock(nn.Module):
    """One resolution: two convolutions, the second halving it, and, in ``resnet``, a skip."""

    def __init__(self, config: Stylegan2Config, level: int, *, residual: bool) -> None:
        super().__init__()
        own = config.discriminator
        inputs, outputs = channels_at(own, level - 1), channels_at(own, level - 2)
        self.conv0 = EqualConv2d(inputs, inputs, 3, activation="lrelu")
        # Both branches carry the 1 / sqrt(2) of their sum in their weights.
        gain = math.sqrt(0.5) if residual else 1.0
        self.conv1_down = EqualConv2d(
            inputs, outputs, 3, down=True, fir=own.fir, activation="lrelu", gain=gain
        )
        self.skip = (
            EqualConv2d(inputs, outputs, 1, down=True, fir=own.fir, bias=False, gain=gain)
            if residual
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) to (B, O, H / 2, W / 2)."""
        passed = self.conv1_down(self.conv0(x))
        return passed if self.skip is None else passed + self.skip(x)


class DiscriminatorHead(nn.Module):
    """The block at 4x4: minibatch deviation, convolution, dense layer."""

    def __init__(self, config: Stylegan2Config) -> None:
        super().__init__()
        own = config.discriminator
        channels = channels_at(own, 1)
        self.group_size, self.group_features = own.group_size, own.group_features
        extra = own.group_features if own.group_size > 1 else 0
        self.conv = EqualConv2d(channels + extra, channels, 3, activation="lrelu")
        self.dense0 = EqualLinear(channels * 16, channels_at(own, 0), activation="lrelu")

    def forward(self, x: Tensor) -> Tensor:
        if self.group_size > 1:
            x = minibatch_deviation(x, self.group_size, self.group_features)
        return self.dense0(self.conv(x).flatten(1))


class Discriminator(nn.Module):
    """Images to scores; the output of block r is quantized where ``quantizer.layers`` has r.

    r is log2 of the resolution that enters the block. Quantized layers follow each other as in
    the network, from high to low resolution.
    """

    fir: Tensor

    def __init__(self, config: Stylegan2Config) -> None:
        super().__init__()
        own = config.discriminator
        if own.architecture not in ("resnet", "orig", "skip"):
            raise ValueError(f"this discriminator is not for {own.architecture}")
        self.resolution, self.levels = config.resolution, config.levels
        self.label_size = config.label_size
        self.skip_images = own.architecture == "skip"
        blocks: dict[str, nn.Module] = {}
        for level in range(self.levels, 2, -1):
            residual = own.architecture == "resnet"
            blocks[str(2**level)] = DiscriminatorBlock(config, level, residual=residual)
        blocks["4"] = DiscriminatorHead(config)
        self.blocks = nn.ModuleDict(blocks)
        for level in range(2, self.levels + 1):
            if level == self.levels or self.skip_images:
                self.blocks[str(2**level)].from_rgb = EqualConv2d(
                    config.num_channels, channels_at(own, level - 1), 1, activation="lrelu"
                )
        self.quantizers = nn.ModuleDict(
            {
                str(level): build_quantizer(
                    channels_at(own, level - 2), config.quantizer.codes_at(level), config.quantizer
                )
                for level in sorted(config.quantizer.layers, reverse=True)
            }
        )
        self.output = EqualLinear(channels_at(own, 0), max(config.label_size, 1))
        self.register_buffer("fir", fir_kernel(own.fir), persistent=False)

    def forward(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        lod: float = 0.0,
        quantize: bool = True,
    ) -> Judged:
        """Score ``images`` (B, C, R, R) in [-1, 1].

        Args:
            images: of the full resolution.
            labels: classes (B,) or label vectors (B, S) where D has labels.
            lod: has no effect, for this network does not grow.
            quantize: False leaves the dictionaries alone and the loss out, for R1 and use.
        """
        losses: list[Tensor] = []
        perplexity = images.new_ones((), dtype=torch.float32)
        x: Tensor | None = None
        for level in range(self.levels, 2, -1):
            block = self.blocks[str(2**level)]
            x = self._with_image(x, images, block)
            x = block(x)
            if self.skip_images:
                images = downsample2d(images, self.fir)
            if str(level) in self.quantizers:
                quantizer = cast(FeatureQuantizer, self.quantizers[str(level)])
                if quantize:
                    quantized = quantizer(x)
                    losses.append(quantized.loss)
                    x, perplexity = quantized.features, quantized.codebook_perplexity
                elif quantizer.forward_mode == "straight_through":
                    x = _pass_codes(quantizer, x)
        head = self.blocks["4"]
        x = self._with_image(x, images, head)
        with torch.autocast(x.device.type, enabled=False):  # scores in fp32
            logits = self.output(head(x.float()))
            if self.label_size:
                logits = (logits * label_vectors(labels, self.label_size)).sum(dim=1)
            else:
                logits = logits.squeeze(1)
        loss = torch.stack(losses).sum(dim=0) if losses else torch.zeros_like(logits)
        return Judged(logits, loss, perplexity)

    @staticmethod
    def _with_image(x: Tensor | None, images: Tensor, block: nn.Module) -> Tensor:
        from_rgb = getattr(block, "from_rgb", None)
        if from_rgb is None:
            assert x is not None
            return x
        seen = from_rgb(images)
        return seen if x is None else x + seen


def _pass_codes(quantizer: FeatureQuantizer, x: Tensor) -> Tensor:
    """The features that a quantizer passes on, without moving its dictionary."""
    training = quantizer.training
    quantizer.eval()
    try:
        return quantizer(x).features
    finally:
        quantizer.train(training)


def build_quantizer(channels: int, codes: int, config: QuantizerConfig) -> FeatureQuantizer:
    """A quantizer with TensorFlow's averages and the authors' first dictionary."""
    quantizer = FeatureQuantizer(
        channels,
        codes,
        commitment_weight=config.commitment_weight,
        decay=config.decay,
        numerics="tf",
        forward_mode=config.forward,
        warmup_calls=config.warmup_calls,
        statistics=config.statistics,
        revive_below=config.revive_below,
    )
    # Variance 1 / C after truncation at two deviations, whose own deviation is 0.87962566.
    first = torch.empty(codes, channels)
    nn.init.trunc_normal_(first, std=1.0, a=-2.0, b=2.0)
    quantizer.set_codes(first / (0.87962566 * math.sqrt(channels)))
    return quantizer
