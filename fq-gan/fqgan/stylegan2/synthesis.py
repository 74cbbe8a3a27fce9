"""From styles to images: StyleGAN2's synthesis network with skip, plain or residual design."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from .config import Stylegan2Config, channels_at
from .layers import EqualConv2d, ModulatedConv2d
from .ops import fir_kernel, upsample2d

Noise = Literal["random", "fixed", "none"] | Sequence[Tensor]


class NoiseInputs(nn.Module):
    """Owns one fixed noise map per layer, ``noise0``, ``noise1``, ...; a part of the networks."""

    noise_sizes: tuple[int, ...]

    def add_noise_buffers(self, sizes: Sequence[int]) -> None:
        self.noise_sizes = tuple(sizes)
        for i, size in enumerate(self.noise_sizes):
            self.register_buffer(f"noise{i}", torch.randn(1, 1, size, size))

    def noise_buffers(self) -> list[Tensor]:
        """The fixed maps, (1, 1, h, w) each."""
        return [self.get_buffer(f"noise{i}") for i in range(len(self.noise_sizes))]

    def choose_noise(self, noise: Noise, batch: int) -> list[Tensor | None]:
        """The maps for a batch: new ones, the fixed ones, none, or the given ones."""
        if noise == "random":
            device = self.get_buffer("noise0").device
            return [torch.randn(batch, 1, size, size, device=device) for size in self.noise_sizes]
        if noise == "fixed":
            return list(self.noise_buffers())
        if noise == "none":
            return [None] * len(self.noise_sizes)
        if isinstance(noise, str) or len(noise) != len(self.noise_sizes):
            raise ValueError(
                f"noise must be random, fixed, none or {len(self.noise_sizes)} maps (B, 1, h, w)"
            )
        return list(noise)


class LearnedConstant(nn.Module):
    """What synthesis begins with: (1, C, 4, 4), the same for every image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.const = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, batch: int) -> Tensor:
        """(B, C, 4, 4)."""
        return self.const.expand(batch, -1, -1, -1)


class SynthesisBlock(nn.Module):
    """One resolution: two modulated convolutions and, where the design has it, RGB or a skip."""

    def __init__(
        self, config: Stylegan2Config, level: int, *, to_rgb: bool, residual: bool
    ) -> None:
        super().__init__()
        own, style_dim = config.generator, config.mapping.style_dim
        outputs = channels_at(own, level - 1)
        self.first = level == 2
        if self.first:
            self.const = LearnedConstant(channels_at(own, 1))
            self.conv = ModulatedConv2d(channels_at(own, 1), outputs, 3, style_dim)
        else:
            inputs = channels_at(own, level - 2)
            self.conv0_up = ModulatedConv2d(inputs, outputs, 3, style_dim, up=True, fir=own.fir)
            self.conv1 = ModulatedConv2d(outputs, outputs, 3, style_dim)
        self.skip = (
            EqualConv2d(
                inputs, outputs, 1, up=True, fir=own.fir, bias=False, gain=math.sqrt(0.5)
            )
            if residual and not self.first
            else None
        )  # fmt: skip
        self.to_rgb = (
            ModulatedConv2d(
                outputs, config.num_channels, 1, style_dim,
                demodulate=False, noise=False, activation="linear",
            )
            if to_rgb
            else None
        )  # fmt: skip

    def forward(
        self, x: Tensor | None, styles: Sequence[Tensor], noise: Sequence[Tensor | None]
    ) -> Tensor:
        """Features of this resolution from those of the last.

        Args:
            x: (B, I, H / 2, W / 2); None in the first block.
            styles: (B, W), one per convolution.
            noise: one map per convolution.
        """
        if self.first:
            x = self.const(len(styles[0]))
            return self.conv(x, styles[0], noise[0])
        assert x is not None
        skipped = None if self.skip is None else self.skip(x)
        x = self.conv0_up(x, styles[0], noise[0])
        x = self.conv1(x, styles[1], noise[1])
        return x if skipped is None else torch.add(skipped, x, alpha=math.sqrt(0.5))


class SynthesisNetwork(NoiseInputs):
    """Styles (B, L, W) to images (B, C, R, R), whose values are not bounded (Fig. 7).

    ``skip`` sums RGB images of all resolutions, ``orig`` has RGB at the end only and ``resnet``
    has residual blocks.
    """

    fir: Tensor

    def __init__(self, config: Stylegan2Config) -> None:
        super().__init__()
        self.levels, self.num_layers = config.levels, config.num_layers
        self.num_channels = config.num_channels
        architecture = config.generator.architecture
        if architecture not in ("skip", "orig", "resnet"):
            raise ValueError(f"the synthesis network has skip, orig or resnet, not {architecture}")
        self.sum_images = architecture == "skip"
        self.blocks = nn.ModuleDict(
            {
                str(2**level): SynthesisBlock(
                    config, level,
                    to_rgb=self.sum_images or level == self.levels,
                    residual=architecture == "resnet",
                )
                for level in range(2, self.levels + 1)
            }
        )  # fmt: skip
        self.add_noise_buffers([2 ** ((i + 5) // 2) for i in range(2 * self.levels - 3)])
        self.register_buffer("fir", fir_kernel(config.generator.fir), persistent=False)

    def forward(self, styles: Tensor, noise: Noise = "random", lod: float = 0.0) -> Tensor:
        """Images of ``styles``; ``lod`` has no effect, for these networks do not grow."""
        maps = self.choose_noise(noise, styles.shape[0])
        own = styles.unbind(dim=1)
        x: Tensor | None = None
        image: Tensor | None = None
        for level in range(2, self.levels + 1):
            block = cast(SynthesisBlock, self.blocks[str(2**level)])
            # Layer 0 is at 4x4, then two layers for every resolution; RGB takes the next style.
            start = max(2 * level - 5, 0)
            end = 2 * level - 3
            x = block(x, own[start:end], maps[start:end])
            if block.to_rgb is not None:
                rgb = block.to_rgb(x, own[end])
                with torch.autocast(rgb.device.type, enabled=False):  # the image is fp32
                    rgb = rgb.float()
                    image = rgb if image is None else upsample2d(image, self.fir) + rgb
        assert image is not None
        return image
