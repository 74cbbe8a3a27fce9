"""StyleGAN2's operations against recorded values and against their plain definitions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from factories import Recorded, relative_error

from fqgan.stylegan2 import layers as ops
from fqgan.stylegan2.layers import EqualConv2d, EqualLinear, ModulatedConv2d

TOLERANCE = 1e-5
pytestmark = pytest.mark.filterwarnings("error")


def taps_of(name):
    """The numbers of a kernel that is named by its digits, as 1331; none for ``none``."""
    return () if name == "none" else tuple(map(float, name))


def recorded_cases(case, prefix):
    recorded = Recorded(case)
    names = [n for n in recorded.names if n.startswith(f"{prefix}/")]
    if not names:
        pytest.skip(f"no {prefix} in {case}")
    return recorded, [(n, n.split("/", 1)[1]) for n in names]


@pytest.mark.golden
@pytest.mark.cases("stylegan/ops.npz")
@pytest.mark.parametrize("kind", ["upsample", "downsample", "filter"])
def test_resampling_agrees_with_recorded_values(case, kind):
    recorded, cases = recorded_cases(case, kind)
    function = {
        "upsample": ops.upsample2d, "downsample": ops.downsample2d, "filter": ops.filter2d,
    }[kind]  # fmt: skip
    for name, taps in cases:
        ours = function(recorded["x"], ops.fir_kernel(taps_of(taps)))
        assert ours.shape == recorded[name].shape
        assert relative_error(ours, recorded[name]) < TOLERANCE, name


@pytest.mark.golden
@pytest.mark.cases("stylegan/ops.npz")
@pytest.mark.parametrize("kind", ["upsample_conv", "conv_downsample"])
@pytest.mark.parametrize("size", ["", "_1x1"])
def test_convolutions_with_resampling_agree_with_recorded_values(case, kind, size):
    recorded, cases = recorded_cases(case, kind + size)
    function = {
        "upsample_conv": ops.upsample_conv2d, "conv_downsample": ops.conv_downsample2d
    }[kind]  # fmt: skip
    weight = recorded["w1" if size else "w"].permute(3, 2, 0, 1)
    for name, taps in cases:
        ours = function(recorded["x"], weight, ops.fir_kernel(taps_of(taps)))
        assert relative_error(ours, recorded[name]) < TOLERANCE, name


@pytest.mark.golden
@pytest.mark.cases("stylegan/ops.npz")
def test_the_general_filter_agrees_with_a_recorded_asymmetric_case(case):
    recorded, _ = recorded_cases(case, "upfirdn")
    ours = ops.upfirdn2d(
        recorded["x"], recorded["fir34"], up=(2, 1), down=(1, 2), pad=(2, -1, 1, 2)
    )  # the file names the settings in its key only
    theirs = recorded["upfirdn/asym"].permute(0, 3, 1, 2)
    assert relative_error(ours, theirs) < TOLERANCE


@pytest.mark.golden
@pytest.mark.cases("stylegan/ops.npz")
def test_activations_agree_with_recorded_values(case):
    recorded, cases = recorded_cases(case, "act")
    for name, setting in cases:
        activation, *rest = setting.split("_")
        options = {}
        for word in rest:  # as alpha.1 or gain.5
            key = word.rstrip("0123456789.")
            options[key] = float(word[len(key) :])
        ours = ops.bias_act(recorded["x"], recorded["bias"], activation, **options)
        assert relative_error(ours, recorded[name]) < TOLERANCE, name


@pytest.mark.golden
@pytest.mark.cases("stylegan/ops.npz")
def test_the_minibatch_deviation_agrees_with_recorded_values(case):
    recorded, cases = recorded_cases(case, "mbstd")
    for name, setting in cases:
        group, features = (int(word[1:]) for word in setting.split("_"))
        ours = ops.minibatch_deviation(recorded["mbstd_in"], group, features)
        assert relative_error(ours, recorded[name]) < TOLERANCE, name


@pytest.mark.golden
@pytest.mark.cases("stylegan/ops.npz")
def test_modulated_convolutions_agree_with_recorded_values(case):
    recorded, _ = recorded_cases(case, "modconv")
    kernel = ops.fir_kernel(taps_of("1331"))
    for kind in sorted({n.split("/")[1] for n in recorded.names if n.startswith("modconv/")}):
        own = recorded.state(f"modconv/{kind}")
        weight = own["weight"].permute(3, 2, 0, 1)
        scale = weight[0].numel() ** -0.5
        style = recorded["mod_y"]
        scales = style @ own["mod_weight"] * style.shape[1] ** -0.5 + own["mod_bias"] + 1.0
        features, factor = ops.modulated_conv2d(
            recorded["x"], weight * scale, scales, kernel=kernel,
            demodulate="nodemod" not in kind, up=kind == "up", down=kind == "down",
        )  # fmt: skip
        ours = features if factor is None else features * factor
        assert relative_error(ours, own["out"]) < TOLERANCE, kind


def zero_insertion(x, kernel, pad):
    """The definition of upsampling, spelled out."""
    wide = torch.zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    wide[:, :, ::2, ::2] = x
    weight = kernel.flip(0, 1).expand(x.shape[1], 1, *kernel.shape)
    return F.conv2d(F.pad(wide, pad), weight, groups=x.shape[1])


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 1), (1, 4, 6, 4, 1), ()])
def test_upsampling_is_zero_insertion_and_a_filter(taps):
    x, kernel = torch.randn(2, 3, 5, 4), ops.fir_kernel(taps)
    rest = len(kernel) - 2
    pad = ((rest + 1) // 2 + 1, rest // 2) * 2
    expected = zero_insertion(x, kernel * 4, pad)
    torch.testing.assert_close(ops.upsample2d(x, kernel), expected)


@pytest.mark.parametrize("kind", ["plain", "up", "down"])
@pytest.mark.parametrize("demodulate", [True, False])
def test_scaling_features_equals_filters_per_sample(kind, demodulate):
    x, weight, scales = torch.randn(3, 4, 6, 6), torch.randn(5, 4, 3, 3), torch.randn(3, 4) + 1
    kernel = ops.fir_kernel((1, 3, 3, 1))
    features, factor = ops.modulated_conv2d(
        x, weight, scales, demodulate=demodulate, kernel=kernel, up=kind == "up",
        down=kind == "down",
    )  # fmt: skip
    ours = features if factor is None else features * factor
    for i in range(len(x)):
        own = weight * scales[i].view(1, -1, 1, 1)
        if demodulate:
            own = own / own.square().sum(dim=(1, 2, 3), keepdim=True).add(1e-8).sqrt()
        one = x[i : i + 1]
        if kind == "plain":
            expected = F.conv2d(one, own, padding=1)
        elif kind == "up":
            expected = ops.upsample_conv2d(one, own, kernel)
        else:
            expected = ops.conv_downsample2d(one, own, kernel)
        torch.testing.assert_close(ours[i : i + 1], expected, rtol=1e-4, atol=1e-5)


def test_everything_can_be_differentiated_twice():
    x = torch.randn(2, 2, 4, 4, dtype=torch.double, requires_grad=True)
    weight = torch.randn(2, 2, 3, 3, dtype=torch.double, requires_grad=True)
    scales = torch.rand(2, 2, dtype=torch.double, requires_grad=True)
    kernel = ops.fir_kernel((1, 3, 3, 1)).double()

    def chain(x, weight, scales):
        y, factor = ops.modulated_conv2d(x, weight, scales, kernel=kernel, up=True)
        y = ops.bias_act(y * factor, None, "softplus")
        y, factor = ops.modulated_conv2d(y, weight, scales, kernel=kernel, down=True)
        return ops.downsample2d(ops.upsample2d(y * factor, kernel), kernel).square()[:, :, 1, 1]

    assert torch.autograd.gradcheck(chain, (x, weight, scales))
    assert torch.autograd.gradgradcheck(chain, (x, weight, scales))


def test_batches_that_no_group_divides_are_named():
    with pytest.raises(ValueError, match="group-size"):
        ops.minibatch_deviation(torch.randn(6, 2, 4, 4), group_size=4)


def test_unknown_activations_are_named():
    with pytest.raises(ValueError, match="lrelu"):
        ops.bias_act(torch.randn(1, 2), None, "gelu")


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
