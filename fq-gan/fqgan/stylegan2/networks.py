"""The networks of StyleGAN2 (Karras et al., CVPR 2020), D with feature quantization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..quantizer import FeatureQuantizer
from ..runtime.distributed import reduce_mean
from .config import MappingConfig, QuantizerConfig, Stylegan2Config, channels_at
from .layers import (
    EqualConv2d,
    EqualLinear,
    ModulatedConv2d,
    downsample2d,
    fir_kernel,
    minibatch_deviation,
    upsample2d,
)


class MappingNetwork(nn.Module):
    """z (B, Z) and, with labels, classes (B,) or label vectors (B, S) to the style w (B, W)."""

    def __init__(self, config: MappingConfig, label_size: int = 0) -> None:
        super().__init__()
        self.label_size = label_size
        inputs = config.latent_dim * (2 if label_size else 1)
        if label_size:
            self.label_concat = LabelConcat(label_size, config.latent_dim)
        hidden = [config.hidden_dim] * (config.num_layers - 1)
        sizes = [inputs, *hidden, config.style_dim]
        self.num_layers = config.num_layers
        for i, (a, b) in enumerate(pairwise(sizes)):
            layer = EqualLinear(a, b, activation="lrelu", lr_multiplier=config.lr_multiplier)
            self.add_module(f"dense{i}", layer)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Styles (B, W) of ``latents`` (B, Z), in fp32 under any autocast."""
        with torch.autocast(latents.device.type, enabled=False):
            x = latents.float()
            if self.label_size:
                x = self.label_concat(x, label_vectors(labels, self.label_size))
            x = x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)
            for i in range(self.num_layers):
                x = self.get_submodule(f"dense{i}")(x)
        return x


class LabelConcat(nn.Module):
    """Append an embedding of the label vector to the latents."""

    def __init__(self, label_size: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(label_size, dim))

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """(B, Z) and (B, S) to (B, 2 Z)."""
        return torch.cat([latents, labels @ self.weight], dim=1)


def label_vectors(labels: Tensor | None, size: int) -> Tensor:
    """Label vectors (B, S) in fp32 from classes (B,), or as they are.

    Raises:
        ValueError: there are none, or they have another size.
    """
    if labels is None or (labels.ndim == 2 and labels.shape[1] != size):
        raise ValueError(f"this network needs classes (B,) or label vectors (B, {size})")
    return labels.float() if labels.ndim == 2 else F.one_hot(labels, size).float()


def broadcast_styles(style: Tensor, num_layers: int) -> Tensor:
    """The same style (B, W) for every layer: (B, L, W)."""
    return style.unsqueeze(1).expand(-1, num_layers, -1)


def mix_styles(first: Tensor, second: Tensor, cutoff: int, num_layers: int) -> Tensor:
    """Style ``first`` (B, W) for the layers before ``cutoff`` and ``second`` after: (B, L, W)."""
    return torch.cat(
        [broadcast_styles(first, cutoff), broadcast_styles(second, num_layers - cutoff)], dim=1
    )


def truncate_styles(
    styles: Tensor, average: Tensor, truncation: float, num_layers: int | None = None
) -> Tensor:
    """Pull styles (B, L, W) towards the average (W,).

    Args:
        styles: one per layer.
        average: mean style.
        truncation: 1 leaves the styles alone, 0 makes them all average.
        num_layers: only the first so many layers; all where absent.
    """
    if truncation == 1.0:
        return styles
    pulled = torch.lerp(average.expand_as(styles), styles, truncation)
    if num_layers is None:
        return pulled
    return torch.cat([pulled[:, :num_layers], styles[:, num_layers:]], dim=1)


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


class Synthesis(Protocol):
    """What the generator needs of a synthesis network; those that do not grow ignore ``lod``."""

    def __call__(self, styles: Tensor, noise: Noise = ..., lod: float = ...) -> Tensor: ...


class Generator(nn.Module):
    """Latents (B, Z) to images (B, C, R, R), about in [-1, 1] but not bounded.

    Args:
        config: of both networks.
        synthesis: styles to images.
    """

    style_average: Tensor

    def __init__(self, config: Stylegan2Config, synthesis: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.latent_dim, self.label_size = config.mapping.latent_dim, config.label_size
        self.num_layers, self.resolution = config.num_layers, config.resolution
        self.mapping = MappingNetwork(config.mapping, config.label_size)
        self.synthesis = synthesis
        self.register_buffer("style_average", torch.zeros(config.mapping.style_dim))

    def styles(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        truncation: float = 1.0,
        truncation_layers: int | None = None,
    ) -> Tensor:
        """Styles (B, L, W), pulled towards the average one by ``truncation`` below 1.

        Args:
            latents: (B, Z), standard normal.
            labels: classes (B,) or label vectors (B, S) where the generator has labels.
            truncation: psi; 1 leaves the styles alone.
            truncation_layers: truncate only the first so many layers.
        """
        styles = broadcast_styles(self.mapping(latents, labels), self.num_layers)
        return truncate_styles(styles, self.style_average, truncation, truncation_layers)

    def forward(
        self,
        latents: Tensor,
        labels: Tensor | None = None,
        *,
        truncation: float = 1.0,
        truncation_layers: int | None = None,
        noise: Noise = "random",
        lod: float = 0.0,
    ) -> Tensor:
        """Images for use; see `styles`. ``noise`` is random, fixed, none, or maps per layer."""
        styles = self.styles(
            latents, labels, truncation=truncation, truncation_layers=truncation_layers
        )
        return self.synthesis(styles, noise, lod)

    def training_styles(
        self, latents: Tensor, labels: Tensor | None = None, *, lod: float = 0.0
    ) -> Tensor:
        """Styles (B, L, W) for training: moves the average style and mixes.

        With the probability ``style_mixing`` the layers after a random one take their style from
        other latents, the same one for the whole batch. Random numbers are the CPU's for the
        decision, so that nothing waits, and the device's for the latents.
        """
        number, probability = len(latents), self.config.generator.style_mixing
        mix = probability > 0.0 and float(torch.rand(())) < probability
        if mix:  # one pass for both
            latents = torch.cat([latents, torch.randn_like(latents)])
            labels = None if labels is None else torch.cat([labels, labels])
        style, *second = self.mapping(latents, labels).split(number)
        decay = self.config.generator.average_decay
        with torch.no_grad():
            mean = reduce_mean(style.detach().mean(dim=0))  # over the ranks, which stay equal
            self.style_average.lerp_(mean, 1.0 - decay)
        if not mix:
            return broadcast_styles(style, self.num_layers)
        in_use = self.num_layers - 2 * math.floor(lod)
        cutoff = int(torch.randint(1, in_use, ()))
        return mix_styles(style, second[0], cutoff, self.num_layers)


class DiscriminatorOutput(NamedTuple):
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
    ) -> DiscriminatorOutput:
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
        return DiscriminatorOutput(logits, loss, perplexity)

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
        codebook_start=config.codebook_start,
    )
    # Variance 1 / C after truncation at two deviations, whose own deviation is 0.87962566.
    first = torch.empty(codes, channels)
    nn.init.trunc_normal_(first, std=1.0, a=-2.0, b=2.0)
    quantizer.set_codes(first / (0.87962566 * math.sqrt(channels)))
    return quantizer
