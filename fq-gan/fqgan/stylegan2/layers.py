"""Layers of StyleGAN2: filters, modulated convolutions, equalized learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GAINS = {"relu": math.sqrt(2), "lrelu": math.sqrt(2), "swish": math.sqrt(2)}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": F.elu,
    "selu": F.selu,
    "softplus": F.softplus,
    "swish": F.silu,
}


def fir_kernel(taps: Sequence[float] | Tensor, gain: float = 1.0) -> Tensor:
    """Filter (h, w) that sums to ``gain``, from separable taps or a matrix; none: a 2x2 average."""
    kernel = torch.as_tensor(taps if len(taps) else (1.0, 1.0), dtype=torch.float32)
    if kernel.ndim == 1:
        kernel = torch.outer(kernel, kernel)
    return kernel * (gain / kernel.sum())


def upfirdn2d(
    x: Tensor,
    kernel: Tensor,
    up: tuple[int, int] = (1, 1),
    down: tuple[int, int] = (1, 1),
    pad: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Tensor:
    """Upsample with zeros, pad, filter, and keep every ``down``-th: the general definition.

    Args:
        x: (B, C, H, W).
        kernel: (h, w), as a convolution (not a correlation).
        up: factors along x and y.
        down: factors along x and y.
        pad: left, right, top, bottom; negative numbers crop.
    """
    batch, channels, height, width = x.shape
    if up != (1, 1):
        x = x.view(batch, channels, height, 1, width, 1)
        x = F.pad(x, (0, up[0] - 1, 0, 0, 0, up[1] - 1))
        x = x.reshape(batch, channels, height * up[1], width * up[0])
    return _filter(F.pad(x, pad), kernel, stride=(down[1], down[0]))


class _Filter(torch.autograd.Function):
    """Every channel with one fixed filter; backward is the transposed filter, as often as asked.

    A convolution of PyTorch differentiated twice would also compute the filter's own gradient, one
    channel at a time.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: Tensor, stride: tuple[int, int], padding: int,
        size: tuple[int, int] | None,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(kernel)
        ctx.settings = stride, padding, tuple(x.shape[2:]) if size is None else None
        channels = x.shape[1]
        weight = kernel.to(x.dtype).expand(channels, 1, -1, -1)
        if size is None:
            return F.conv2d(x, weight, stride=stride, padding=padding, groups=channels)
        rest = [
            size[i] + 2 * padding - kernel.shape[i] - (x.shape[2 + i] - 1) * stride[i]
            for i in range(2)
        ]
        return F.conv_transpose2d(x, weight, None, stride, padding, rest, channels)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (kernel,) = ctx.saved_tensors
        return _Filter.apply(grad, kernel, *ctx.settings), None, None, None, None


def _filter(
    x: Tensor, kernel: Tensor, stride: tuple[int, int] = (1, 1), padding: int = 0
) -> Tensor:
    return _Filter.apply(x, kernel.flip(0, 1), stride, padding, None)


def _pad_and_filter(x: Tensor, kernel: Tensor, pad: tuple[int, int], stride: int = 1) -> Tensor:
    """With the same padding and stride on both axes."""
    if pad[0] == pad[1] >= 0:
        return _filter(x, kernel, (stride, stride), pad[0])
    return _filter(F.pad(x, (*pad, *pad)), kernel, (stride, stride))


def filter2d(x: Tensor, kernel: Tensor) -> Tensor:
    """Filter (B, C, H, W) with ``kernel`` (n, n) and keep its size."""
    rest = kernel.shape[0] - 1
    return _pad_and_filter(x, kernel, ((rest + 1) // 2, rest // 2))


def upsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    """(B, C, H, W) to (B, C, 2 H, 2 W) with ``kernel`` (n, n), n even, that sums to 1."""
    rest = kernel.shape[0] - 2
    if rest % 2:
        pad = ((rest + 1) // 2 + 1, rest // 2)
        return upfirdn2d(x, kernel * 4.0, up=(2, 2), pad=(*pad, *pad))
    # A transposed convolution is zero insertion and filter in one; it begins n - 1 - pad early.
    size = (2 * x.shape[2], 2 * x.shape[3])
    return _Filter.apply(x, kernel * 4.0, (2, 2), rest // 2, size)


def downsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    """(B, C, H, W) to (B, C, H / 2, W / 2) with ``kernel`` (n, n) that sums to 1."""
    rest = kernel.shape[0] - 2
    return _pad_and_filter(x, kernel, ((rest + 1) // 2, rest // 2), stride=2)


def conv1x1(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve with ``weight`` (O, I, 1, 1)."""
    if x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last):
        # A matrix product on the memory as it lies; PyTorch's own way would copy it first.
        rows = x.permute(0, 2, 3, 1)
        return F.linear(rows, weight.flatten(1), bias).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, bias)


def upsample_conv2d(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """Upsample by 2 and convolve with ``weight`` (O, I, k, k), k odd, without its bias."""
    size = weight.shape[-1]
    if size == 1:
        return upsample2d(conv1x1(x, weight), kernel)
    rest = kernel.shape[0] - 2 - (size - 1)
    x = F.conv_transpose2d(x, weight.flip(2, 3).transpose(0, 1), stride=2)
    return _pad_and_filter(x, kernel * 4.0, ((rest + 1) // 2 + 1, rest // 2 + 1))


def conv_downsample2d(
    x: Tensor, weight: Tensor, kernel: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Convolve with ``weight`` (O, I, k, k), k odd, and downsample by 2."""
    size = weight.shape[-1]
    if size == 1:
        return conv1x1(downsample2d(x, kernel), weight, bias)
    rest = kernel.shape[0] - 2 + size - 1
    x = _pad_and_filter(x, kernel, ((rest + 1) // 2, rest // 2))
    return F.conv2d(x, weight, bias, stride=2)


def bias_act(
    x: Tensor,
    bias: Tensor | None = None,
    activation: str = "lrelu",
    *,
    alpha: float = 0.2,
    gain: float | None = None,
) -> Tensor:
    """``activation(x + bias) * gain``; bias (C,) is that of dimension 1.

    Gain is by default the square root of 2 for relu, lrelu and swish, else 1; ``alpha`` is the
    slope of lrelu below zero.
    """
    if bias is not None:
        x = x + bias.to(x.dtype).view(1, -1, *[1] * (x.ndim - 2))
    if activation == "lrelu":
        x = F.leaky_relu(x, alpha)
    elif activation in ACTIVATIONS:
        x = ACTIVATIONS[activation](x)
    else:
        known = ", ".join(("lrelu", *ACTIVATIONS))
        raise ValueError(f"activation {activation!r} is not one of {known}")
    gain = GAINS.get(activation, 1.0) if gain is None else gain
    return x if gain == 1.0 else x * gain


def demodulation(weight: Tensor, scales: Tensor, eps: float = 1e-8) -> Tensor:
    """1 / norm of each sample's modulated filters (Eq. 3): (B, O).

    Args:
        weight: (O, I, k, k).
        scales: (B, I), the style of each sample.
        eps: added to the squared norm.
    """
    energy = weight.square().sum(dim=(2, 3))  # (O, I)
    return torch.rsqrt(scales.square() @ energy.t() + eps)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    *,
    demodulate: bool = True,
    kernel: Tensor | None = None,
    up: bool = False,
    down: bool = False,
    gain: float = 1.0,
) -> tuple[Tensor, Tensor | None]:
    """Convolve each sample with its own filters ``weight * scales`` (Eq. 1), up to a factor.

    Instead of filters per sample, inputs are multiplied by ``scales`` and outputs have to be by
    the second result, which callers do together with noise and bias.

    Args:
        x: (B, I, H, W).
        weight: (O, I, k, k), with the equalized learning rate's factor in it.
        scales: (B, I).
        demodulate: give every filter the norm 1 (Eq. 3).
        kernel: filter of the resampling.
        up: to (2 H, 2 W).
        down: to (H / 2, W / 2).
        gain: further factor of the second result.

    Returns:
        The convolved features (B, O, H', W') and their missing factor (B, O, 1, 1), if any.
    """
    factor = None
    if demodulate:
        if _half_precision(x):  # keeps products in range; demodulation takes the factor out again
            scales = scales / scales.abs().amax(dim=1, keepdim=True).clamp(min=1e-6)
        factor = demodulation(weight, scales)
        factor = (factor * gain if gain != 1.0 else factor)[:, :, None, None]
    elif gain != 1.0:
        scales = scales * gain
    if weight.shape[-1] == 1 and not (up or down or demodulate):
        # Few outputs (RGB): scaling filters is cheaper than scaling features.
        own = (weight.flatten(1) * scales.unsqueeze(1)).to(x.dtype)  # (B, O, I)
        return torch.einsum("boi,bihw->bohw", own, x), None
    x = x * scales.to(x.dtype)[:, :, None, None]
    if up:
        assert kernel is not None
        x = upsample_conv2d(x, weight, kernel)
    elif down:
        assert kernel is not None
        x = conv_downsample2d(x, weight, kernel)
    else:
        x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    return x, None if factor is None else factor.to(x.dtype)


def _half_precision(x: Tensor) -> bool:
    kind = x.device.type
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16


def minibatch_deviation(x: Tensor, group_size: int = 4, num_features: int = 1) -> Tensor:
    """Append the standard deviation over groups of images as ``num_features`` maps, in fp32.

    Args:
        x: (B, C, H, W); groups are of images B / group_size apart, B a multiple of the group's
            size or smaller than it.
        group_size: images per group.
        num_features: F, a divisor of C.

    Returns:
        (B, C + F, H, W).
    """
    batch, channels, height, width = x.shape
    group = min(group_size, batch)
    if batch % group:
        raise ValueError(
            f"a batch of {batch} images cannot be split into groups of {group} for the minibatch "
            "deviation; change the batch size or --discriminator.group-size"
        )
    if channels % num_features:
        raise ValueError(
            f"--discriminator.group-features {num_features} does not divide {channels} channels"
        )
    with torch.autocast(x.device.type, enabled=False):
        groups = x.float().reshape(group, -1, num_features, channels // num_features, height, width)
        spread = (groups - groups.mean(dim=0)).square().mean(dim=0)  # (B / g, F, C / F, H, W)
        spread = (spread + 1e-8).sqrt().mean(dim=(2, 3, 4))  # (B / g, F)
        maps = spread.repeat(group, 1)[:, :, None, None].expand(-1, -1, height, width)
    return torch.cat([x, maps.to(x.dtype)], dim=1)


FIR = (1, 3, 3, 1)
HOMOGENEOUS = ("linear", "relu", "lrelu")  # factors may be taken out of these


class EqualLinear(nn.Module):
    """Dense layer (B, I) to (B, O).

    Args:
        inputs: I.
        outputs: O.
        activation: a name that `ops.bias_act` knows.
        bias: whether there is one, zero at first.
        bias_offset: constant added to the bias, no part of it.
        lr_multiplier: learning rate relative to the other layers.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        activation: str = "linear",
        bias: bool = True,
        bias_offset: float = 0.0,
        lr_multiplier: float = 1.0,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.activation, self.lr_multiplier = activation, lr_multiplier
        self.bias_offset = bias_offset
        self.scale = gain / math.sqrt(inputs) * lr_multiplier
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        bias: Tensor | None = self.bias
        if bias is not None and self.lr_multiplier != 1.0:
            bias = bias * self.lr_multiplier
        if bias is not None and self.bias_offset:
            bias = bias + self.bias_offset
        return bias_act(F.linear(x, self.weight * self.scale, bias), None, self.activation)


class EqualConv2d(nn.Module):
    """Convolution (B, I, H, W) to (B, O, H', W') with bias and activation.

    Args:
        inputs: I.
        outputs: O.
        size: side k of the filters, odd.
        up: double the resolution.
        down: halve the resolution.
        fir: filter of the resampling; empty for nearest neighbours and averages.
        activation: a name that `ops.bias_act` knows.
        bias: whether there is one.
        gain: of weights and bias; further factor of the output where the activation allows it.
        lr_multiplier: learning rate relative to the other layers.
    """

    fir: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        up: bool = False,
        down: bool = False,
        fir: Sequence[float] = FIR,
        activation: str = "linear",
        bias: bool = True,
        gain: float = 1.0,
        lr_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.up, self.down, self.activation = up, down, activation
        self.scale = lr_multiplier / math.sqrt(inputs * size * size)
        self.lr_multiplier, self.gain = lr_multiplier, gain
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size) / lr_multiplier)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.register_buffer("fir", fir_kernel(fir), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # The activation's gain goes into weights and bias: one pass over the features less.
        inside = self.activation in HOMOGENEOUS
        gain = GAINS.get(self.activation, 1.0) * self.gain
        before = gain if inside else 1.0
        weight = self.weight * (self.scale * before)
        bias: Tensor | None = self.bias
        if bias is not None and self.lr_multiplier * before != 1.0:
            bias = bias * (self.lr_multiplier * before)
        if self.up:
            x = upsample_conv2d(x, weight, self.fir)
            if bias is not None:
                x = x + bias.to(x.dtype)[:, None, None]
        elif self.down:
            x = conv_downsample2d(x, weight, self.fir, bias)
        elif weight.shape[-1] == 1:
            x = conv1x1(x, weight, bias)
        else:
            x = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        if self.activation == "lrelu":
            return _leaky(x)
        return bias_act(x, None, self.activation, gain=1.0 if inside else gain)


class ModulatedConv2d(nn.Module):
    """Convolution whose filters a style scales, with noise, bias and activation (Fig. 2d).

    Args:
        inputs: I.
        outputs: O.
        size: side k of the filters, odd.
        style_dim: size of w.
        up: double the resolution.
        down: halve the resolution.
        demodulate: give the scaled filters the norm 1.
        noise: add noise, times a strength that is learned.
        activation: ``lrelu`` or ``linear``.
        fir: filter of the resampling.
    """

    fir: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        style_dim: int,
        *,
        up: bool = False,
        down: bool = False,
        demodulate: bool = True,
        noise: bool = True,
        activation: str = "lrelu",
        fir: Sequence[float] = FIR,
    ) -> None:
        super().__init__()
        if activation not in HOMOGENEOUS:
            raise ValueError(f"a modulated convolution has lrelu or linear, not {activation!r}")
        self.up, self.down, self.demodulate = up, down, demodulate
        self.activation, self.gain = activation, GAINS.get(activation, 1.0)
        self.scale = 1.0 / math.sqrt(inputs * size * size)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.modulation = EqualLinear(style_dim, inputs, bias_offset=1.0)
        self.noise_strength = nn.Parameter(torch.zeros(())) if noise else None
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("fir", fir_kernel(fir), persistent=False)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
        """Convolve ``x`` (B, I, H, W) with filters for ``style`` (B, W).

        ``noise`` (B or 1, 1, H', W') has the output's resolution.
        """
        with torch.autocast(x.device.type, enabled=False):  # styles and their norms in fp32
            scales = self.modulation(style.float())
        x, factor = modulated_conv2d(
            x, self.weight * self.scale, scales,
            demodulate=self.demodulate, kernel=self.fir, up=self.up, down=self.down,
            gain=self.gain,
        )  # fmt: skip
        bias = (self.bias * self.gain).to(x.dtype)[:, None, None]
        if self.noise_strength is not None and noise is not None:
            strength = self.noise_strength * self.gain
            added = (noise * strength).to(x.dtype)
            x = torch.addcmul(added, x, factor) if factor is not None else x + added
            x = x.add_(bias)
        else:
            x = torch.addcmul(bias, x, factor) if factor is not None else x + bias
        return _leaky(x) if self.activation == "lrelu" else x


def _leaky(x: Tensor) -> Tensor:
    """lrelu in the memory of ``x``, which its layer made and nobody else needs."""
    return F.leaky_relu(x, 0.2) if x._is_view() else F.leaky_relu_(x, 0.2)
