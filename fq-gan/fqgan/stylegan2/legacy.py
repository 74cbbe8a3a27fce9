"""Networks that grow, those of StyleGAN (2019) among them, and which ones a configuration has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import MappingConfig, Stylegan2Config, channels_at
from .layers import (
    EqualConv2d,
    EqualLinear,
    ModulatedConv2d,
    filter2d,
    fir_kernel,
    minibatch_deviation,
)
from .networks import (
    Discriminator,
    DiscriminatorBlock,
    DiscriminatorHead,
    DiscriminatorOutput,
    Generator,
    MappingNetwork,
    Noise,
    NoiseInputs,
    SynthesisBlock,
    SynthesisNetwork,
    label_vectors,
)


def grown_to(levels: int, lod: float) -> tuple[int, float]:
    """Highest level (log2 of the resolution) in use, and the share of the one below it.

    Raises:
        ValueError: ``lod`` is not between 0 (full resolution) and that of 4 x 4 pixels.
    """
    if not 0.0 <= lod <= levels - 2:
        raise ValueError(f"lod must be in [0, {levels - 2}], got {lod}")
    whole = math.floor(lod)
    return levels - whole, lod - whole


def enlarge(images: Tensor, factor: int) -> Tensor:
    """Repeat every pixel ``factor`` times along both axes."""
    return F.interpolate(images, scale_factor=factor) if factor > 1 else images


def shrink(images: Tensor, factor: int) -> Tensor:
    """Means of ``factor`` x ``factor`` pixels."""
    return F.avg_pool2d(images, factor) if factor > 1 else images


def grow_image(
    levels: int,
    lod: float,
    features: Callable[[int, Tensor | None], Tensor],
    to_rgb: Callable[[int, Tensor], Tensor],
) -> Tensor:
    """The image at ``lod``: features from 4 x 4 upwards, RGB of the last one or two.

    Args:
        levels: log2 of the full resolution R.
        lod: see above.
        features: level and the features of the one below, to features.
        to_rgb: level and its features, to an image.

    Returns:
        (B, C, R, R).
    """
    top, share = grown_to(levels, lod)
    below: Tensor | None = None
    x: Tensor | None = None
    for level in range(2, top + 1):
        below, x = x, features(level, x)
    assert x is not None
    image = to_rgb(top, x)
    if share:
        assert below is not None
        image = torch.lerp(image, enlarge(to_rgb(top - 1, below), 2), share)
    return enlarge(image, 2 ** (levels - top))


def shrink_features(
    images: Tensor,
    lod: float,
    from_rgb: Callable[[int, Tensor], Tensor],
    block: Callable[[int, Tensor], Tensor],
) -> Tensor:
    """Features at 4 x 4 of ``images`` (B, C, R, R) at ``lod``, whose details above it are ignored.

    Args:
        images: of the full resolution.
        lod: see above.
        from_rgb: level and an image of its size, to features.
        block: level and its features, to those of the level below.
    """
    levels = images.shape[-1].bit_length() - 1
    top, share = grown_to(levels, lod)
    images = shrink(images, 2 ** (levels - top))
    x = from_rgb(top, images)
    for level in range(top, 2, -1):
        x = block(level, x)
        if share and level == top:
            x = torch.lerp(x, from_rgb(level - 1, shrink(images, 2)), share)
    return x


def fade_reals(images: Tensor, lod: float) -> Tensor:
    """Real ``images`` (B, C, R, R) as networks at ``lod`` should see them."""
    levels = images.shape[-1].bit_length() - 1
    top, share = grown_to(levels, lod)
    faded = shrink(images, 2 ** (levels - top))
    if share:
        faded = torch.lerp(faded, enlarge(shrink(faded, 2), 2), share)
    return enlarge(faded, 2 ** (levels - top))


BLUR = (1, 2, 1)
SLOPE = 0.2  # of leaky ReLU below zero
FLIPPED_FROM = 128  # pixels
"""From this resolution the authors' upsampling convolution has its filters the other way round."""


class GrowingSynthesis(NoiseInputs):
    """Styles (B, L, W) to images (B, C, R, R): modulated convolutions, RGB at every resolution."""

    def __init__(self, config: Stylegan2Config) -> None:
        super().__init__()
        own, style_dim = config.generator, config.mapping.style_dim
        self.levels, self.num_layers = config.levels, config.num_layers
        self.blocks = nn.ModuleDict(
            {
                str(2**level): SynthesisBlock(config, level, to_rgb=False, residual=False)
                for level in range(2, self.levels + 1)
            }
        )
        for level in range(2, self.levels + 1):
            rgb = ModulatedConv2d(
                channels_at(own, level - 1), config.num_channels, 1, style_dim,
                demodulate=False, noise=False, activation="linear",
            )  # fmt: skip
            self.add_module(f"to_rgb_lod{self.levels - level}", rgb)
        self.add_noise_buffers([2 ** ((i + 5) // 2) for i in range(2 * self.levels - 3)])

    def forward(self, styles: Tensor, noise: Noise = "random", lod: float = 0.0) -> Tensor:
        """Images of ``styles`` at ``lod``."""
        maps, own = self.choose_noise(noise, styles.shape[0]), styles.unbind(dim=1)

        def features(level: int, x: Tensor | None) -> Tensor:
            layers = slice(max(2 * level - 5, 0), 2 * level - 3)
            return self.blocks[str(2**level)](x, own[layers], maps[layers])

        def to_rgb(level: int, x: Tensor) -> Tensor:
            rgb = self.get_submodule(f"to_rgb_lod{self.levels - level}")
            return rgb(x, own[2 * level - 3]).float()

        return grow_image(self.levels, lod, features, to_rgb)


class GrowingDiscriminator(nn.Module):
    """Images (B, C, R, R) to scores: StyleGAN2's plain blocks, RGB read at every resolution."""

    def __init__(self, config: Stylegan2Config) -> None:
        super().__init__()
        own = config.discriminator
        self.resolution, self.levels = config.resolution, config.levels
        self.label_size = config.label_size
        blocks: dict[str, nn.Module] = {
            str(2**level): DiscriminatorBlock(config, level, residual=False)
            for level in range(self.levels, 2, -1)
        }
        blocks["4"] = DiscriminatorHead(config)
        self.blocks = nn.ModuleDict(blocks)
        for level in range(2, self.levels + 1):
            rgb = EqualConv2d(
                config.num_channels, channels_at(own, level - 1), 1, activation="lrelu"
            )
            self.add_module(f"from_rgb_lod{self.levels - level}", rgb)
        self.output = EqualLinear(channels_at(own, 0), max(config.label_size, 1))

    def forward(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        lod: float = 0.0,
        quantize: bool = True,
    ) -> DiscriminatorOutput:
        """Score ``images`` in [-1, 1] at ``lod``; ``quantize`` has no effect, for nothing is."""
        x = shrink_features(images, lod, self._from_rgb, lambda n, x: self.blocks[str(2**n)](x))
        with torch.autocast(x.device.type, enabled=False):
            return judge(self.output(self.blocks["4"](x.float())), labels, self.label_size)

    def _from_rgb(self, level: int, images: Tensor) -> Tensor:
        return self.get_submodule(f"from_rgb_lod{self.levels - level}")(images)


def judge(scores: Tensor, labels: Tensor | None, label_size: int) -> DiscriminatorOutput:
    """Scores (B, 1 or S) as those of the ``labels``; nothing is quantized."""
    if label_size:
        scores = scores * label_vectors(labels, label_size)
    logits = scores.sum(dim=1)
    return DiscriminatorOutput(logits, torch.zeros_like(logits), logits.new_ones(()))


class HeConv2d(nn.Module):
    """Convolution with an equalized learning rate, He's gain on the weights but not on the bias."""

    def __init__(self, inputs: int, outputs: int, size: int, *, bias: bool = True) -> None:
        super().__init__()
        self.scale = math.sqrt(2 / (inputs * size * size))
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) to (B, O, H, W)."""
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[-1] // 2)


class HeLinear(nn.Module):
    """Dense layer (B, I) to (B, O) of the same kind, with its leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, lr_multiplier: float = 1.0) -> None:
        super().__init__()
        self.lr_multiplier = lr_multiplier
        self.scale = math.sqrt(2 / inputs) * lr_multiplier
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.weight * self.scale, self.bias * self.lr_multiplier)
        return F.leaky_relu(x, SLOPE)


class StyleGan1Mapping(MappingNetwork):
    """The mapping network with He's gain on its weights only."""

    def __init__(self, config: MappingConfig, label_size: int = 0) -> None:
        super().__init__(config, label_size)
        for i in range(config.num_layers):
            outputs, inputs = self.get_submodule(f"dense{i}").get_parameter("weight").shape
            self.add_module(f"dense{i}", HeLinear(inputs, outputs, config.lr_multiplier))


class NoiseScale(nn.Module):
    """Noise (B or 1, 1, H, W), scaled for every channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, noise: Tensor | None) -> Tensor:
        return x if noise is None else x + noise.to(x.dtype) * self.weight[:, None, None]


class StyledLayer(nn.Module):
    """Constant or convolution, then noise, bias, leaky ReLU, instance norm, style (Fig. 1b).

    Args:
        inputs: I; None makes it the learned constant of 4 x 4 pixels.
        outputs: O.
        style_dim: W.
        up: double the resolution first.
        flipped: turn the filters by 180 degrees.
    """

    blur: Tensor

    def __init__(
        self,
        inputs: int | None,
        outputs: int,
        style_dim: int,
        *,
        up: bool = False,
        flipped: bool = False,
    ) -> None:
        super().__init__()
        self.up, self.flipped = up, flipped
        if inputs is None:
            self.const = nn.Parameter(torch.ones(1, outputs, 4, 4))
        else:
            self.scale = math.sqrt(2 / (inputs * 9))
            self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.noise = NoiseScale(outputs)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.style_mod = EqualLinear(style_dim, 2 * outputs)
        self.register_buffer("blur", fir_kernel(BLUR) if up else None, persistent=False)

    def forward(self, x: Tensor | None, style: Tensor, noise: Tensor | None) -> Tensor:
        """``x`` (B, I, H, W), ``style`` (B, W) and ``noise`` (B or 1, 1, H', W')."""
        if x is None:
            x = self.const.expand(len(style), -1, -1, -1)
        else:
            weight = self.weight * self.scale
            weight = weight.flip(2, 3) if self.flipped else weight
            x = F.conv2d(enlarge(x, 2) if self.up else x, weight, padding=1)
            x = filter2d(x, self.blur) if self.up else x
        x = F.leaky_relu(self.noise(x, noise) + self.bias[:, None, None], SLOPE)
        with torch.autocast(x.device.type, enabled=False):  # statistics and styles in fp32
            x = F.instance_norm(x.float(), eps=1e-8)
            scale, shift = self.style_mod(style.float())[:, :, None, None].chunk(2, dim=1)
            return x * (scale + 1) + shift


class StyledBlock(nn.Module):
    """One resolution: two styled layers."""

    def __init__(self, config: Stylegan2Config, level: int) -> None:
        super().__init__()
        style_dim, outputs = config.mapping.style_dim, channels_at(config.generator, level - 1)
        if level == 2:
            self.const = StyledLayer(None, outputs, style_dim)
            self.conv = StyledLayer(outputs, outputs, style_dim)
        else:
            inputs = channels_at(config.generator, level - 2)
            flipped = 2**level >= FLIPPED_FROM
            self.conv0_up = StyledLayer(inputs, outputs, style_dim, up=True, flipped=flipped)
            self.conv1 = StyledLayer(outputs, outputs, style_dim)

    def forward(
        self, x: Tensor | None, styles: Sequence[Tensor], noise: Sequence[Tensor | None]
    ) -> Tensor:
        """Features from those of the last resolution, two styles (B, W) and two noise maps."""
        first, second = (self.const, self.conv) if x is None else (self.conv0_up, self.conv1)
        return second(first(x, styles[0], noise[0]), styles[1], noise[1])


class StyleGan1Synthesis(NoiseInputs):
    """Styles (B, L, W) to images (B, C, R, R)."""

    def __init__(self, config: Stylegan2Config) -> None:
        super().__init__()
        self.levels, self.num_layers = config.levels, config.num_layers
        levels = range(2, self.levels + 1)
        self.blocks = nn.ModuleDict({str(2**level): StyledBlock(config, level) for level in levels})
        for level in levels:
            channels = channels_at(config.generator, level - 1)
            rgb = EqualConv2d(channels, config.num_channels, 1)
            self.add_module(f"to_rgb_lod{self.levels - level}", rgb)
        self.add_noise_buffers([2 ** (i // 2 + 2) for i in range(2 * self.levels - 2)])

    def forward(self, styles: Tensor, noise: Noise = "random", lod: float = 0.0) -> Tensor:
        """Images of ``styles`` at ``lod``."""
        maps, own = self.choose_noise(noise, styles.shape[0]), styles.unbind(dim=1)

        def features(level: int, x: Tensor | None) -> Tensor:
            layers = slice(2 * level - 4, 2 * level - 2)
            return self.blocks[str(2**level)](x, own[layers], maps[layers])

        def to_rgb(level: int, x: Tensor) -> Tensor:
            return self.get_submodule(f"to_rgb_lod{self.levels - level}")(x).float()

        return grow_image(self.levels, lod, features, to_rgb)


class StyleGan1Block(nn.Module):
    """One resolution of the discriminator: two convolutions, the second halving it."""

    blur: Tensor | None

    def __init__(self, inputs: int, outputs: int, *, blurs: bool = True) -> None:
        super().__init__()
        self.conv0 = HeConv2d(inputs, inputs, 3)
        self.conv1_down = HeConv2d(inputs, outputs, 3)
        self.register_buffer("blur", fir_kernel(BLUR) if blurs else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) to (B, O, H / 2, W / 2)."""
        x = F.leaky_relu(self.conv0(x), SLOPE)
        x = x if self.blur is None else filter2d(x, self.blur)
        # The authors add the bias after averaging, which is the same.
        return F.leaky_relu(shrink(self.conv1_down(x), 2), SLOPE)


class StyleGan1Head(nn.Module):
    """The block at 4 x 4: minibatch deviation, convolution, two dense layers."""

    def __init__(self, config: Stylegan2Config) -> None:
        super().__init__()
        own = config.discriminator
        channels, hidden = channels_at(own, 1), channels_at(own, 0)
        self.group_size, self.group_features = own.group_size, own.group_features
        extra = own.group_features if own.group_size > 1 else 0
        self.conv = HeConv2d(channels + extra, channels, 3)
        self.dense0 = HeLinear(channels * 16, hidden)
        self.dense1 = EqualLinear(hidden, max(config.label_size, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 4, 4) to scores (B, 1 or S)."""
        if self.group_size > 1:
            x = minibatch_deviation(x, self.group_size, self.group_features)
        x = F.leaky_relu(self.conv(x), SLOPE)
        return self.dense1(self.dense0(x.flatten(1)))


class StyleGan1Discriminator(nn.Module):
    """Images (B, C, R, R) to scores; the CelebA classifiers of linear separability are such too."""

    def __init__(self, config: Stylegan2Config) -> None:
        super().__init__()
        own = config.discriminator
        self.resolution, self.levels = config.resolution, config.levels
        self.label_size = config.label_size
        widths = {level: channels_at(own, level - 1) for level in range(1, self.levels + 1)}
        blocks: dict[str, nn.Module] = {
            str(2**level): StyleGan1Block(widths[level], widths[level - 1], blurs=bool(own.fir))
            for level in range(self.levels, 2, -1)
        }
        self.blocks = nn.ModuleDict({**blocks, "4": StyleGan1Head(config)})
        for level in range(2, self.levels + 1):
            rgb = HeConv2d(config.num_channels, widths[level], 1)
            self.add_module(f"from_rgb_lod{self.levels - level}", rgb)

    def forward(
        self,
        images: Tensor,
        labels: Tensor | None = None,
        *,
        lod: float = 0.0,
        quantize: bool = True,
    ) -> DiscriminatorOutput:
        """Score ``images`` in [-1, 1] at ``lod``; ``quantize`` has no effect, for nothing is."""
        x = shrink_features(images, lod, self._from_rgb, lambda n, x: self.blocks[str(2**n)](x))
        with torch.autocast(x.device.type, enabled=False):  # scores in fp32
            return judge(self.blocks["4"](x.float()), labels, self.label_size)

    def _from_rgb(self, level: int, images: Tensor) -> Tensor:
        rgb = self.get_submodule(f"from_rgb_lod{self.levels - level}")
        return F.leaky_relu(rgb(images), SLOPE)


SYNTHESIS = {"growing": GrowingSynthesis, "stylegan1": StyleGan1Synthesis}
DISCRIMINATORS = {"growing": GrowingDiscriminator, "stylegan1": StyleGan1Discriminator}


def build_generator(config: Stylegan2Config) -> Generator:
    """G with first weights from torch's global random state."""
    architecture = config.generator.architecture
    generator = Generator(config, SYNTHESIS.get(architecture, SynthesisNetwork)(config))
    if architecture == "stylegan1":
        generator.mapping = StyleGan1Mapping(config.mapping, config.label_size)
    return generator


def build_discriminator(config: Stylegan2Config) -> nn.Module:
    """D, likewise."""
    return DISCRIMINATORS.get(config.discriminator.architecture, Discriminator)(config)
