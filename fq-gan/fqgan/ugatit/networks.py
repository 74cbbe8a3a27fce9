"""The four networks of U-GAT-IT (Kim et al., ICLR 2020), D with feature quantization."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..spectral_norm import normalized_weights
from .config import UgatitConfig
from .layers import (
    LEAK,
    AdaptiveLayerInstanceNorm,
    ClassActivation,
    InstanceNorm,
    LayerInstanceNorm,
    ReflectConv2d,
    SpectralReflectConv2d,
    UpsampledConv2d,
    initialize,
)


class Translated(NamedTuple):
    """What a generator makes of a batch."""

    images: Tensor  # (B, C, H, W) in [-1, 1]
    cam_logits: Tensor  # (B, 2) high for images of the domain it translates from
    heatmap: Tensor  # (B, H/4, W/4) where it looks: sum of the weighted features


class ResidualBlock(nn.Module):
    """conv-norm-relu-conv-norm plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ReflectConv2d(channels, channels, 3, 1, 1)
        self.norm1 = InstanceNorm(channels)
        self.conv2 = ReflectConv2d(channels, channels, 3, 1, 1)
        self.norm2 = InstanceNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.norm1(self.conv1(features))
        return self.norm2(self.conv2(hidden, relu=True)) + features


class AdaptiveBlock(nn.Module):
    """The same with AdaLIN, whose gain and bias (B, C) come from outside."""

    def __init__(self, channels: int, *, smoothing: bool) -> None:
        super().__init__()
        self.conv1 = ReflectConv2d(channels, channels, 3, 1, 1)
        self.norm1 = AdaptiveLayerInstanceNorm(channels, smoothing=smoothing)
        self.conv2 = ReflectConv2d(channels, channels, 3, 1, 1)
        self.norm2 = AdaptiveLayerInstanceNorm(channels, smoothing=smoothing)

    def forward(self, features: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        hidden = self.norm1(self.conv1(features), gain, bias)
        return self.norm2(self.conv2(hidden, relu=True), gain, bias) + features


class Generator(nn.Module):
    """Translates images of one domain into the other.

    The full one takes images of exactly ``config.image_size``, because its style comes from every
    position; the light one takes any height and width that are multiples of 4.
    """

    def __init__(self, config: UgatitConfig) -> None:
        super().__init__()
        own = config.generator
        first, middle = own.channels, 4 * own.channels
        self.image_size, self.light = config.image_size, own.light
        self.first = ReflectConv2d(config.image_channels, first, 7, 1, 3)
        self.first_norm = InstanceNorm(first)
        self.down = nn.ModuleList(
            ReflectConv2d(first * 2**i, first * 2 ** (i + 1), 3, 2, 1) for i in range(2)
        )
        self.down_norms = nn.ModuleList(InstanceNorm(first * 2 ** (i + 1)) for i in range(2))
        self.blocks = nn.ModuleList(ResidualBlock(middle) for _ in range(own.num_blocks))
        self.cam = ClassActivation(middle, spectral=False)
        positions = 1 if own.light else (config.image_size // 4) ** 2
        self.style = nn.ModuleList(
            [nn.Linear(positions * middle, middle), nn.Linear(middle, middle)]
        )
        self.gain, self.bias = nn.Linear(middle, middle), nn.Linear(middle, middle)
        self.adaptive_blocks = nn.ModuleList(
            AdaptiveBlock(middle, smoothing=own.smoothing) for _ in range(own.num_blocks)
        )
        self.up = nn.ModuleList(
            UpsampledConv2d(middle // 2**i, middle // 2 ** (i + 1)) for i in range(2)
        )
        self.up_norms = nn.ModuleList(LayerInstanceNorm(middle // 2 ** (i + 1)) for i in range(2))
        self.last = ReflectConv2d(first, config.image_channels, 7, 1, 3)
        initialize(self)

    def forward(self, images: Tensor) -> Translated:
        """Translate ``images`` (B, C, H, W) in [-1, 1]."""
        self._check(images)
        hidden = self.first_norm(self.first(images))
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            hidden = norm(conv(hidden, relu=True))
        hidden = F.relu_(hidden)
        for block in self.blocks:
            hidden = block(hidden)
        activation = self.cam(hidden)
        hidden = F.relu_(activation.features)
        heatmap = hidden.sum(dim=1)
        gain, bias = self._style(hidden)
        for block in self.adaptive_blocks:
            hidden = block(hidden, gain, bias)
        for number, (conv, norm) in enumerate(zip(self.up, self.up_norms, strict=True)):
            hidden = norm(conv(hidden, relu=number > 0))
        return Translated(self.last(hidden, relu=True).float().tanh(), activation.logits, heatmap)

    def _style(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and bias (B, 4 channels) of all AdaLIN layers."""
        # Position by position, channels fastest: the order of the rows in the released files.
        style = hidden.mean(dim=(2, 3)) if self.light else hidden.movedim(1, -1).flatten(1)
        for linear in self.style:
            style = F.relu_(linear(style))
        return self.gain(style), self.bias(style)

    def _check(self, images: Tensor) -> None:
        height, width = images.shape[2:]
        if not self.light and (height, width) != (self.image_size, self.image_size):
            raise ValueError(
                f"this generator translates images of {self.image_size}x{self.image_size} pixels, "
                f"got {height}x{width}; resize them, or train with --generator.light"
            )
        if height % 4 or width % 4 or min(height, width) < 8:
            raise ValueError(
                f"height and width must be multiples of 4 from 8, got {height}x{width}"
            )

    @torch.no_grad()
    def clip_rho(self) -> None:
        """Put the mixing factors of AdaLIN and LIN back into [0, 1]; after every update."""
        factors: list[Tensor] = [p for name, p in self.named_parameters() if name.endswith(".rho")]
        torch._foreach_clamp_min_(factors, 0.0)
        torch._foreach_clamp_max_(factors, 1.0)


class DiscriminatorOutput(NamedTuple):
    """What a discriminator says about a batch; all logits are high for real images."""

    local_logits: Tensor  # (B, 1, h, w) of overlapping patches
    global_logits: Tensor  # (B, 1, h', w') of larger patches
    local_cam: Tensor  # (B, 2) of the attention head
    global_cam: Tensor  # (B, 2)
    quantization_loss: Tensor  # (B,) summed over the quantized layers, weighted; 0 without any
    codebook_perplexity: Tensor  # () of the deepest quantized layer; 1 without any

    @property
    def all_logits(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four parts that the adversarial loss adds up."""
        return self.local_logits, self.global_logits, self.local_cam, self.global_cam

    def halves(self) -> tuple[DiscriminatorOutput, DiscriminatorOutput]:
        """The first half of the batch and the second."""
        parts = [value.chunk(2) for value in self[:-1]]
        first, second = (
            DiscriminatorOutput(
                *(part[i] for part in parts), codebook_perplexity=self.codebook_perplexity
            )  # type: ignore[misc]
            for i in range(2)
        )
        return first, second


class Branch(nn.Module):
    """One of the two: strided convolutions, attention head, patch logits.

    Args:
        config: of all networks.
        depth: convolutions in front of the attention head, the last one without stride.
        layers: numbers of the convolutions whose output is quantized.
    """

    def __init__(self, config: UgatitConfig, depth: int, layers: tuple[int, ...] = ()) -> None:
        super().__init__()
        own = config.discriminator
        conv = SpectralReflectConv2d if own.spectral_norm else ReflectConv2d
        widths = [config.image_channels, *(own.channels * 2**i for i in range(depth))]
        self.convs = nn.ModuleList(
            conv(inputs, outputs, 4, 1 if i == depth - 1 else 2, 1)
            for i, (inputs, outputs) in enumerate(pairwise(widths))
        )
        self.quantizers = nn.ModuleDict(
            {
                str(i): config.quantizer.build(widths[i + 1], config.quantizer.codes_of(i), "tf")
                for i in sorted(layers)
            }
        )
        self.cam = ClassActivation(widths[-1], spectral=own.spectral_norm)
        self.logit = conv(widths[-1], 1, 4, 1, 1)

    def forward(
        self, images: Tensor, *, quantize: bool, parts: int
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor | None]:
        """Logits (B, 1, h, w), logits of the head (B, 2), losses (B,), codebook perplexity ()."""
        hidden, losses, perplexity = images, [], None
        for number, conv in enumerate(self.convs):
            hidden = F.leaky_relu_(conv(hidden), LEAK)
            if quantize and str(number) in self.quantizers:
                quantizer = self.quantizers[str(number)]
                found = [quantizer(part) for part in hidden.chunk(parts)]
                if quantizer.forward_mode == "straight_through":
                    hidden = torch.cat([one.features for one in found])
                losses.append(torch.cat([one.loss for one in found]))
                perplexity = found[-1].codebook_perplexity
        features, cam = self.cam(hidden)
        return self.logit(F.leaky_relu_(features, LEAK)).float(), cam, losses, perplexity


class Discriminator(nn.Module):
    """Tells images of one domain from translated ones."""

    def __init__(self, config: UgatitConfig) -> None:
        super().__init__()
        depth = config.discriminator.depth
        self.local_branch = Branch(config, depth - 2)
        self.global_branch = Branch(config, depth, config.quantizer.layers)
        initialize(self)

    def forward(
        self, images: Tensor, *, quantize: bool = True, parts: int = 1
    ) -> DiscriminatorOutput:
        """Judge ``images`` (B, C, H, W) in [-1, 1].

        Args:
            images: real ones, translated ones, or both.
            quantize: False leaves the quantizers out: no loss, dictionaries stay.
            parts: equal parts of the batch that the quantizers see one after the other; 2 for real
                and translated images in one pass, which the authors judge in two.
        """
        with normalized_weights(self):
            return self._judge(images, quantize, parts)

    def _judge(self, images: Tensor, quantize: bool, parts: int) -> DiscriminatorOutput:
        local, local_cam, _, _ = self.local_branch(images, quantize=False, parts=1)
        patches, cam, losses, perplexity = self.global_branch(
            images, quantize=quantize, parts=parts
        )
        loss = torch.stack(losses).sum(dim=0) if losses else cam.new_zeros(len(images))
        if perplexity is None:
            perplexity = cam.new_ones(())
        return DiscriminatorOutput(local, patches, local_cam, cam, loss, perplexity)


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
