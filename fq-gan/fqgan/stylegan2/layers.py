"""Layers whose learning rate is equalized, and StyleGAN2's modulated convolution.

Parameters are drawn from N(0, 1) and multiplied by their layer's scale when used, so that Adam
moves all layers alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ops import (
    GAINS,
    bias_act,
    conv1x1,
    conv_downsample2d,
    fir_kernel,
    modulated_conv2d,
    upsample_conv2d,
)

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
