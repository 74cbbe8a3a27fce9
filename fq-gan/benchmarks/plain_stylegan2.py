"""The plain way through StyleGAN2, written as the formulas stand.

Weights are made for every sample and run as a grouped convolution; filters run after zeros have
been inserted, on each channel as an image of its own; activations, gains and noise are passes of
their own. The numbers are those of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from fqgan.stylegan2 import layers, layers as ops, networks as discriminator, networks as synthesis

DEPTHWISE = False


def filtered(
    x: Tensor, kernel: Tensor, *, up: int = 1, down: int = 1, pad: tuple[int, int]
) -> Tensor:
    """Zero insertion, padding, filter, every ``down``-th."""
    batch, channels, height, width = x.shape
    if up > 1:
        wide = x.new_zeros(batch, channels, height, up, width, up)
        wide[:, :, :, 0, :, 0] = x
        x = wide.reshape(batch, channels, height * up, width * up)
    x = F.pad(x, (*pad, *pad))
    weight = kernel.flip(0, 1).to(x.dtype)[None, None]
    if DEPTHWISE:
        x = F.conv2d(x, weight.expand(channels, -1, -1, -1), groups=channels)
    else:
        x = F.conv2d(x.reshape(-1, 1, *x.shape[2:]), weight)
        x = x.reshape(batch, channels, *x.shape[2:])
    return x[:, :, ::down, ::down]


def upsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    rest = len(kernel) - 2
    return filtered(x, kernel * 4, up=2, pad=((rest + 1) // 2 + 1, rest // 2))


def downsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    rest = len(kernel) - 2
    return filtered(x, kernel, down=2, pad=((rest + 1) // 2, rest // 2))


def upsample_conv2d(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    size = weight.shape[-1]
    rest = len(kernel) - 2 - (size - 1)
    x = F.conv_transpose2d(x, weight.flip(2, 3).transpose(0, 1), stride=2)
    return filtered(x, kernel * 4, pad=((rest + 1) // 2 + 1, rest // 2 + 1))


def conv_downsample2d(
    x: Tensor, weight: Tensor, kernel: Tensor, bias: Tensor | None = None
) -> Tensor:
    rest = len(kernel) - 2 + weight.shape[-1] - 1
    x = filtered(x, kernel, pad=((rest + 1) // 2, rest // 2))
    return F.conv2d(x, weight, bias, stride=2)


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
) -> tuple[Tensor, Tensor]:
    """A convolution in as many groups as there are samples, each with its own filters."""
    batch, inputs, height, width = x.shape
    outputs, _, size, _ = weight.shape
    own = weight.unsqueeze(0) * scales[:, None, :, None, None]  # (B, O, I, k, k)
    if demodulate:
        own = own * torch.rsqrt(own.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
    x = x.reshape(1, batch * inputs, height, width)
    if up:
        assert kernel is not None
        filters = own.flip(3, 4).transpose(1, 2).reshape(batch * inputs, outputs, size, size)
        x = F.conv_transpose2d(x, filters, stride=2, groups=batch)
        rest = len(kernel) - 2 - (size - 1)
        x = filtered(x, kernel * 4, pad=((rest + 1) // 2 + 1, rest // 2 + 1))
    else:
        filters = own.reshape(batch * outputs, inputs, size, size)
        x = F.conv2d(x, filters, padding=size // 2, groups=batch)
    x = x.reshape(batch, outputs, *x.shape[2:])
    return x, torch.full((1, 1, 1, 1), gain, device=x.device, dtype=x.dtype)


def equal_conv(layer: layers.EqualConv2d, x: Tensor) -> Tensor:
    """Weights scaled, then convolution, bias, activation and gain, one after the other."""
    weight = layer.weight * layer.scale
    if layer.up:
        x = upsample_conv2d(x, weight, layer.fir)
    elif layer.down:
        x = conv_downsample2d(x, weight, layer.fir)
    else:
        x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    x = ops.bias_act(x, layer.bias, layer.activation)
    return x * layer.gain if layer.gain != 1.0 else x


@contextmanager
def plain_way(*, depthwise: bool = False) -> Iterator[None]:
    """Inside, the networks of ``fqgan.stylegan2`` run the plain way.

    Args:
        depthwise: filter all channels in one convolution of as many groups. The authors' way, an
            image per channel, is very slow in PyTorch on a CPU.
    """
    with (
        mock.patch.dict(globals(), DEPTHWISE=depthwise),
        mock.patch.object(layers, "modulated_conv2d", modulated_conv2d),
        mock.patch.object(layers.EqualConv2d, "forward", equal_conv),
        mock.patch.object(synthesis, "upsample2d", upsample2d),
        mock.patch.object(discriminator, "downsample2d", downsample2d),
    ):
        yield
