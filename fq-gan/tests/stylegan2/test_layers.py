"""Equalized layers and the modulated convolution."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from fqgan.stylegan2 import layers as ops
from fqgan.stylegan2.layers import EqualConv2d, EqualLinear, ModulatedConv2d


def test_outputs_of_random_layers_have_unit_variance():
    x = torch.randn(256, 64)
    assert abs(float(EqualLinear(64, 64)(x).detach().std()) - 1) < 0.1
    slow = EqualLinear(64, 64, lr_multiplier=0.01)
    assert abs(float(slow.weight.detach().std()) - 100) < 5
    assert abs(float(slow(x).detach().std()) - 1) < 0.1


@pytest.mark.parametrize("activation", ["linear", "relu", "lrelu", "swish", "tanh"])
@pytest.mark.parametrize("kind", ["plain", "up", "down"])
def test_gains_inside_the_weights_change_nothing(activation, kind):
    layer = EqualConv2d(
        3, 4, 3, up=kind == "up", down=kind == "down", activation=activation, gain=0.5
    )
    torch.nn.init.normal_(layer.bias)
    x, kernel = torch.randn(2, 3, 6, 6), ops.fir_kernel((1, 3, 3, 1))
    weight = layer.weight / math.sqrt(27)
    if kind == "plain":
        y = F.conv2d(x, weight, padding=1)
    elif kind == "up":
        y = ops.upsample_conv2d(x, weight, kernel)
    else:
        y = ops.conv_downsample2d(x, weight, kernel)
    expected = ops.bias_act(y, layer.bias, activation) * 0.5
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_the_modulated_layer_scales_adds_noise_and_bias_and_activates():
    layer = ModulatedConv2d(3, 4, 3, 5)
    torch.nn.init.normal_(layer.bias)
    torch.nn.init.constant_(layer.noise_strength, 0.3)
    x, style, noise = torch.randn(2, 3, 6, 6), torch.randn(2, 5), torch.randn(2, 1, 6, 6)
    y, factor = ops.modulated_conv2d(x, layer.weight / math.sqrt(27), layer.modulation(style))
    expected = ops.bias_act(y * factor + 0.3 * noise, layer.bias, "lrelu")
    torch.testing.assert_close(layer(x, style, noise), expected, rtol=1e-4, atol=1e-5)
    expected = ops.bias_act(y * factor, layer.bias, "lrelu")
    torch.testing.assert_close(layer(x, style), expected, rtol=1e-4, atol=1e-5)


def test_styles_do_not_change_the_strength_of_demodulated_features():
    layer = ModulatedConv2d(16, 16, 3, 5, noise=False, activation="linear")
    x = torch.randn(1, 16, 8, 8)
    style = torch.randn(1, 5)
    with torch.no_grad():
        small = layer(x, style)
        layer.modulation.weight.mul_(50)
        layer.modulation.bias.fill_(49)  # with the offset 1, all scales are 50 times as large
        large = layer(x, style)
    torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-4)


def test_half_precision_keeps_the_range_of_large_styles():
    layer = ModulatedConv2d(8, 8, 3, 5, noise=False)
    torch.nn.init.constant_(layer.modulation.bias, 1e5)
    x, style = torch.randn(1, 8, 4, 4), torch.randn(1, 5)
    with torch.autocast("cpu", dtype=torch.float16):
        assert torch.isfinite(layer(x.half(), style)).all()


def test_other_activations_of_modulated_layers_are_refused():
    with pytest.raises(ValueError, match="swish"):
        ModulatedConv2d(2, 2, 3, 2, activation="swish")
