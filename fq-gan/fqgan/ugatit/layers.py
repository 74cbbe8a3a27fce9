"""Layers of U-GAT-IT (Kim et al., ICLR 2020): adaptive normalization, class activation maps."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..spectral_norm import SpectralConv2d, SpectralLinear

NORM_EPS = 1e-5
SN_EPS = 1e-6  # root of the smallest squared norm in TensorFlow's l2_normalize
SMOOTHING = 0.1  # taken from AdaLIN's rho
LEAK = 0.2
PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))  # rows and columns in a 2x2 block
Padding = tuple[int, int, int, int]  # left, right, top, bottom


def reflection(kernel: int, stride: int, padding: int) -> Padding:
    """Pixels to be mirrored; asymmetric where ``kernel - stride`` is odd, as the authors pad.

    Their rule gives (1, 0) for kernel 3, stride 2 and (1, 2) for kernel 4, stride 1.
    """
    before = padding
    after = padding if (kernel - stride) % 2 == 0 else kernel - stride - padding
    return before, after, before, after


class _Border(torch.autograd.Function):
    """Pixels around an image, mirrored or repeated, after an optional ReLU.

    The convolution that follows keeps the padded image for its own gradient; nothing else is kept
    here, neither the image without its border nor the one without the ReLU.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, border: Padding, mirrored: bool, relu: bool) -> Tensor:
        ctx.border, ctx.mirrored, ctx.relu = border, mirrored, relu
        padded = F.pad(features, border, mode="reflect" if mirrored else "replicate")
        if relu:
            padded.relu_()
        ctx.save_for_backward(padded)
        return padded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (padded,) = ctx.saved_tensors
        if ctx.relu:
            gradient = torch.ops.aten.threshold_backward(gradient, padded, 0)
        if torch.are_deterministic_algorithms_enabled():  # what follows adds in any order on CUDA
            return _gather_border(gradient, ctx.border, ctx.mirrored), None, None, None
        left, right, top, bottom = ctx.border
        height, width = padded.shape[2] - bottom, padded.shape[3] - right
        inside = padded[:, :, top:height, left:width]  # for its shape and layout
        name = "reflection" if ctx.mirrored else "replication"
        spread = getattr(torch.ops.aten, f"{name}_pad2d_backward")
        return spread(gradient, inside, ctx.border), None, None, None


def _gather_border(gradient: Tensor, border: Padding, mirrored: bool) -> Tensor:
    """The gradient of the inner pixels from that of a padded image, added in a fixed order."""
    left, right, top, bottom = border
    for dim, before, after in ((2, top, bottom), (3, left, right)):
        size = gradient.shape[dim] - before - after
        inside = gradient.narrow(dim, before, size).clone()
        for i in range(before):
            source = before - i if mirrored else 0
            inside.select(dim, source).add_(gradient.select(dim, i))
        for i in range(after):
            source = size - 2 - i if mirrored else size - 1
            inside.select(dim, source).add_(gradient.select(dim, before + size + i))
        gradient = inside
    return gradient


class ReflectConv2d(nn.Conv2d):
    """Convolution of an image that is mirrored at its borders."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__(inputs, outputs, kernel, stride)
        self.border = reflection(kernel, stride, padding)

    def forward(self, features: Tensor, *, relu: bool = False) -> Tensor:
        """Convolve ``features`` (B, I, H, W), or with ``relu`` their positive part."""
        padded = _Border.apply(features, self.border, True, relu)
        return F.conv2d(padded, self.weight, self.bias, self.stride)


class SpectralReflectConv2d(SpectralConv2d):
    """The same with a spectrally normalized kernel."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__(inputs, outputs, kernel, stride, vectors=1, iterations=1, eps=SN_EPS)
        self.border = reflection(kernel, stride, padding)

    def forward(self, features: Tensor) -> Tensor:
        padded = _Border.apply(features, self.border, True, False)
        return F.conv2d(padded, self.normalized_weight(), self.bias, self.stride)


class _Interleave(torch.autograd.Function):
    """Images of every other pixel, in both directions, put together.

    (B, 2, 2, O, H + 1, W + 1) -> (B, O, 2 H, 2 W): part (r, s) gives rows r, r + 2, ... and columns
    s, s + 2, ..., beginning with its own row r and column s.
    """

    @staticmethod
    def forward(ctx: Any, parts: Tensor) -> Tensor:
        ctx.shape = parts.shape
        batch, _, _, channels, height, width = parts.shape
        out = parts.new_empty(batch, channels, 2 * height - 2, 2 * width - 2)
        for r, s in PHASES:
            out[:, :, r::2, s::2] = parts[:, r, s, :, r : height - 1 + r, s : width - 1 + s]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        parts = gradient.new_zeros(ctx.shape)
        height, width = ctx.shape[-2:]
        for r, s in PHASES:
            parts[:, r, s, :, r : height - 1 + r, s : width - 1 + s] = gradient[:, :, r::2, s::2]
        return parts


class UpsampledConv2d(ReflectConv2d):
    """Nearest neighbour twice as high and wide, then the 3x3 convolution with mirrored borders.

    A 3x3 kernel meets each pixel of the small image up to nine times; summed beforehand, four 2x2
    kernels, one per position in the 2x2 blocks, do the same with 16 products instead of 36 and
    without the large image in between. Mirrored, the large image repeats the small one's border.
    """

    sums: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, 1, 1)
        sums = [[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]]
        self.register_buffer("sums", torch.tensor(sums), persistent=False)  # position, tap, of 3

    def forward(self, features: Tensor, *, relu: bool = False) -> Tensor:
        """(B, I, H, W), or with ``relu`` their positive part, to (B, O, 2 H, 2 W)."""
        with torch.autocast(features.device.type, enabled=False):
            kernels = torch.einsum("rik,sjl,ockl->rsocij", self.sums, self.sums, self.weight)
        assert self.bias is not None
        padded = _Border.apply(features, (1, 1, 1, 1), False, relu)
        parts = F.conv2d(padded, kernels.flatten(0, 2), self.bias.repeat(len(PHASES)))
        return _Interleave.apply(parts.unflatten(1, (2, 2, -1)))


class _Moments(torch.autograd.Function):
    """Mean and biased variance of every channel, keeping nothing but the image and the mean."""

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> tuple[Tensor, Tensor]:
        exact, number = features.float(), features[0, 0].numel()
        if features.device.type == "cpu":  # several times as fast there as var_mean
            mean = exact.mean(dim=(2, 3), keepdim=True)
            norm = torch.linalg.vector_norm(exact - mean, dim=(2, 3), keepdim=True)
            variance = norm.square_().div_(number)
        else:
            variance, mean = torch.var_mean(exact, dim=(2, 3), correction=0, keepdim=True)
        ctx.save_for_backward(features, mean)
        return mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, for_mean: Tensor, for_variance: Tensor) -> Tensor:
        features, mean = ctx.saved_tensors
        number = features[0, 0].numel()
        slope = for_variance * (2.0 / number)
        offset = for_mean / number - slope * mean
        return torch.addcmul(offset, features.float(), slope).to(features.dtype)


def channel_moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (B, C, 1, 1) over the positions of (B, C, H, W), in fp32."""
    return _Moments.apply(features)


def scale_shift(features: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``features * scale + shift`` in fp32, in the precision of ``features``."""
    return torch.addcmul(shift, features.float(), scale).to(features.dtype)


class InstanceNorm(nn.InstanceNorm2d):
    """Normalization of every channel of every image, with weight and bias (C,)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=NORM_EPS, affine=True)


def mix_norms(features: Tensor, rho: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """rho * instance norm + (1 - rho) * layer norm, times ``gain`` plus ``bias`` (Eq. 1 of AdaLIN).

    Both norms are affine in the features of one channel of one image, so is their mixture: the
    image is read once for the moments and once for the result.

    Args:
        features: (B, C, H, W).
        rho: (C,), 1 is instance norm, 0 layer norm.
        gain, bias: (C,) or (B, C).
    """
    with torch.autocast(features.device.type, enabled=False):
        mean, variance = channel_moments(features)
        all_mean = mean.mean(dim=1, keepdim=True)
        all_variance = variance.mean(dim=1, keepdim=True) + (mean - all_mean).square().mean(
            dim=1, keepdim=True
        )
        rho, gain, bias = (t.float()[..., None, None] for t in (rho, gain, bias))
        within = rho * torch.rsqrt(variance + NORM_EPS)
        across = (1.0 - rho) * torch.rsqrt(all_variance + NORM_EPS)
        scale = gain * (within + across)
        shift = bias - gain * (within * mean + across * all_mean)
        return scale_shift(features, scale, shift)


class LayerInstanceNorm(nn.Module):
    """Instance and layer norm in a learned mixture, with weight and bias (LIN)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.zeros(channels))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        return mix_norms(features, self.rho, self.weight, self.bias)


class AdaptiveLayerInstanceNorm(nn.Module):
    """The mixture with gain and bias (B, C) from outside (AdaLIN).

    Args:
        channels: C.
        smoothing: use rho less 0.1, but not below 0.
    """

    def __init__(self, channels: int, *, smoothing: bool) -> None:
        super().__init__()
        self.rho = nn.Parameter(torch.ones(channels))
        self.smoothing = smoothing

    def forward(self, features: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        rho = (self.rho - SMOOTHING).clamp(0.0, 1.0) if self.smoothing else self.rho
        return mix_norms(features, rho, gain, bias)


class Activation(NamedTuple):
    """What the attention head returns."""

    features: Tensor  # (B, C, H, W) weighted and mixed, before the nonlinearity
    logits: Tensor  # (B, 2) of the averaged and of the largest features


class ClassActivation(nn.Module):
    """Attention by a class activation map (CAM) with the average and the maximum pooled.

    One linear layer judges both; the features are multiplied by its weight *plus its bias*, as the
    authors do, twice the same way, concatenated and mixed by a 1x1 convolution. As both halves are
    equal, that is one convolution with the sum of the halves of its kernel.

    Args:
        channels: C.
        spectral: normalize the linear layer (in discriminators).
    """

    def __init__(self, channels: int, *, spectral: bool) -> None:
        super().__init__()
        options: dict[str, Any] = {"vectors": 1, "iterations": 1, "eps": SN_EPS}
        self.judge: nn.Linear = (
            SpectralLinear(channels, 1, **options) if spectral else nn.Linear(channels, 1)
        )
        self.mix = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, features: Tensor) -> Activation:
        """Weigh ``features`` (B, C, H, W)."""
        with torch.autocast(features.device.type, enabled=False):
            weight = self.judge.weight
            if isinstance(self.judge, SpectralLinear):
                weight = self.judge.normalized_weight()
            average = features.mean(dim=(2, 3), dtype=torch.float32)
            largest = features.amax(dim=(2, 3)).float()
            logits = F.linear(torch.stack([average, largest], dim=1), weight, self.judge.bias)
            both = self.mix.weight[:, :, 0, 0].unflatten(1, (2, -1)).sum(dim=1)  # (C, C)
            kernel = (both * (weight + self.judge.bias))[..., None, None]
        return Activation(F.conv2d(features, kernel, self.mix.bias), logits.squeeze(2))


def initialize(network: nn.Module) -> None:
    """Normal weights with deviation 0.02 and zero biases in convolutions and linear layers."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def kernels(network: nn.Module) -> list[Tensor]:
    """The weights under L2 regularization: of convolutions and linear layers, not of norms."""
    return [
        module.weight for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)
    ]
