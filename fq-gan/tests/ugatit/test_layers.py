"""Single layers against the recorded ones, and against the formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from factories import Recorded, relative_error
from ugatit_cases import images_of

from fqgan.released.ugatit import in_our_layout
from fqgan.ugatit import layers
from fqgan.ugatit.layers import (
    LEAK,
    AdaptiveLayerInstanceNorm,
    ClassActivation,
    InstanceNorm,
    LayerInstanceNorm,
    ReflectConv2d,
    SpectralReflectConv2d,
    UpsampledConv2d,
    channel_moments,
    kernels,
    reflection,
)
from fqgan.ugatit.networks import ResidualBlock

TOLERANCE = 1e-4
# Recorded layer -> its convolution's stride and padding.
CONVOLUTIONS = {"c1": ("conv_s1", 1, 1), "c2": ("conv_s2", 2, 1), "c4": ("conv_k7", 1, 3)}
OPS = pytest.mark.cases("ugatit/ugatit_ops*.npz")


def load(module, **values):
    state = {name: in_our_layout(value, name) for name, value in values.items()}
    left = module.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    assert all(key.endswith("sv0") for key in left.missing_keys)
    return module


def agree(ours, theirs):
    theirs = theirs.movedim(-1, 1) if theirs.ndim == 4 else theirs
    assert relative_error(ours.reshape(theirs.shape), theirs) < TOLERANCE


@pytest.mark.golden
@OPS
def test_norms_agree_with_the_recorded_ones(case):
    recorded = Recorded(case)
    x, var = images_of(recorded, "x"), recorded.state("var")
    channels = x.shape[1]
    gain, bias = recorded["gamma"].flatten(1), recorded["beta"].flatten(1)
    for smoothing in (True, False):
        norm = AdaptiveLayerInstanceNorm(channels, smoothing=smoothing)
        load(norm, rho=var[f"ada{smoothing}/rho"])
        agree(norm(x, gain, bias), recorded[f"out/adalin_smooth_{smoothing}"])
    lin = load(
        LayerInstanceNorm(channels),
        rho=var["lin/rho"], weight=var["lin/gamma"], bias=var["lin/beta"],
    )  # fmt: skip
    agree(lin(x), recorded["out/lin"])
    norm = load(InstanceNorm(channels), weight=var["inorm/gamma"], bias=var["inorm/beta"])
    agree(norm(x), recorded["out/instance_norm"])


@pytest.mark.golden
@OPS
def test_convolutions_agree_with_the_recorded_ones(case):
    recorded = Recorded(case)
    x, var = images_of(recorded, "x"), recorded.state("var")
    agree(F.interpolate(x, scale_factor=2.0), recorded["out/upsample"])
    tiled = x.repeat(1, 1, 2, 2)  # what a recorded 7x7 convolution was given
    for name, (out, stride, padding) in CONVOLUTIONS.items():
        kernel, bias = var[f"{name}/conv2d/kernel"], var[f"{name}/conv2d/bias"]
        size, _, inputs, outputs = kernel.shape
        conv = load(ReflectConv2d(inputs, outputs, size, stride, padding), weight=kernel, bias=bias)
        theirs = recorded[f"out/{out}"]
        found = next(
            found for given in (x, tiled) if (found := conv(given)).shape[2:] == theirs.shape[1:3]
        )
        agree(found, theirs)
    kernel = var["c3/kernel"]
    size, _, inputs, outputs = kernel.shape
    conv = load(
        SpectralReflectConv2d(inputs, outputs, size, 2, 1),
        weight=kernel, bias=var["c3/bias"], u0=var["c3/u"],
    )  # fmt: skip
    agree(conv(x), recorded["out/conv_k4s2_sn"])
    agree(conv.u0, recorded["u_after/c3/u"])
    agree(F.leaky_relu(x, LEAK), recorded["out/lrelu02"])
    parts = {"conv_0/conv2d": "conv", "instance_norm": "norm"}
    ends = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
    state = {
        f"{parts[scope]}{number}.{ends[end]}": var[f"rb/res{number}/{scope}/{end}"]
        for number in (1, 2)
        for scope, chosen in (("conv_0/conv2d", 2), ("instance_norm", 4))
        for end in list(ends)[chosen - 2 : chosen]
    }
    agree(load(ResidualBlock(x.shape[1]), **state)(x), recorded["out/resblock"])


@pytest.mark.golden
@OPS
@pytest.mark.parametrize(("name", "pooled"), [("cam", 1), ("cam_sn", 0)])
def test_the_attention_head_agrees_with_the_recorded_one(case, name, pooled):
    recorded = Recorded(case)
    x, var = images_of(recorded, "x"), recorded.state("var")
    head = ClassActivation(x.shape[1], spectral=name == "cam_sn")
    values = {"weight": var[f"{name}/kernel"], "bias": var[f"{name}/bias"]}
    if name == "cam_sn":
        values["u0"] = var[f"{name}/u"]
    load(head.judge, **values)
    # A mixture that hands on the first half: the features times the recorded weights.
    channels = x.shape[1]
    torch.nn.init.zeros_(head.mix.bias)
    with torch.no_grad():
        head.mix.weight[:, :, 0, 0] = torch.eye(channels, 2 * channels)
    found = head(x)
    agree(found.logits[:, pooled], recorded[f"out/{name}_out"][:, 0])
    agree(found.features / x, (recorded[f"out/{name}_w"] * torch.ones(*x.shape[2:], 1)).expand(
        len(x), *x.shape[2:], channels
    ))  # fmt: skip
    if name == "cam_sn":
        agree(head.judge.u0, recorded["u_after/cam_sn/u"])


def test_padding_is_asymmetric_where_the_authors_pad_so():
    assert reflection(3, 1, 1) == (1, 1, 1, 1)
    assert reflection(3, 2, 1) == (1, 0, 1, 0)
    assert reflection(4, 2, 1) == (1, 1, 1, 1)
    assert reflection(4, 1, 1) == (1, 2, 1, 2)
    assert reflection(7, 1, 3) == (3, 3, 3, 3)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 2, 1), (4, 1, 1)])
def test_borders_have_first_and_second_derivatives(relu, shape):
    conv = ReflectConv2d(2, 2, *shape).double()
    images = torch.randn(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)

    def ours(features):
        return conv(features, relu=relu)

    def plain(features):
        padded = F.pad(F.relu(features) if relu else features, conv.border, mode="reflect")
        return F.conv2d(padded, conv.weight, conv.bias, conv.stride)

    torch.testing.assert_close(ours(images), plain(images))
    found = []
    for function in (ours, plain):
        (first,) = torch.autograd.grad(function(images).square().sum(), images, create_graph=True)
        found.append((first, *torch.autograd.grad(first.square().sum(), images)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_summed_kernels_do_what_upsampling_and_the_convolution_do(layout):
    images = torch.randn(2, 3, 5, 4).contiguous(memory_format=layout).requires_grad_()
    conv = UpsampledConv2d(3, 2)
    large = F.pad(F.interpolate(images, scale_factor=2.0), (1, 1, 1, 1), mode="reflect")
    plain, ours = F.conv2d(large, conv.weight, conv.bias), conv(images)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)
    learned = [images, conv.weight, conv.bias]
    for one, other in zip(
        torch.autograd.grad(ours.sin().sum(), learned),
        torch.autograd.grad(plain.sin().sum(), learned),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert list(conv.state_dict()) == ["weight", "bias"]


def test_the_mixture_is_between_instance_norm_and_layer_norm():
    x = torch.randn(2, 5, 6, 7) + torch.randn(5, 1, 1)
    norm = LayerInstanceNorm(5)
    torch.testing.assert_close(norm(x), F.layer_norm(x, x.shape[1:]), atol=1e-5, rtol=1e-4)
    torch.nn.init.ones_(norm.rho)
    torch.testing.assert_close(norm(x), F.instance_norm(x), atol=1e-5, rtol=1e-4)
    torch.nn.init.constant_(norm.rho, 0.3)
    mixed = 0.3 * F.instance_norm(x) + 0.7 * F.layer_norm(x, x.shape[1:])
    torch.testing.assert_close(norm(x), mixed, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_moments_and_their_gradients_are_those_of_torch(layout):
    x = (torch.randn(2, 3, 5, 4) + 7.0).contiguous(memory_format=layout).requires_grad_()
    variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
    ours = channel_moments(x)
    torch.testing.assert_close(ours, (mean, variance), atol=1e-6, rtol=1e-5)
    for loss in (lambda m, v: (m * v).sum(), lambda m, v: (m.sin() + v.sqrt()).sum()):
        (one,) = torch.autograd.grad(loss(*ours), x, retain_graph=True)
        (other,) = torch.autograd.grad(loss(mean, variance), x, retain_graph=True)
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_the_gradient_of_the_mixture_is_right():
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    gain, bias = torch.randn(2, 2, 3, dtype=torch.float64)
    norm = AdaptiveLayerInstanceNorm(3, smoothing=True)

    def plain(features):
        mixed = 0.9 * F.instance_norm(features) + 0.1 * F.layer_norm(features, features.shape[1:])
        return mixed * gain[..., None, None] + bias[..., None, None]

    (ours,) = torch.autograd.grad(norm(x, gain, bias).sin().sum(), x)
    (theirs,) = torch.autograd.grad(plain(x).sin().sum(), x)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


def test_the_folded_attention_equals_concatenating_both_poolings():
    x = torch.randn(2, 4, 5, 5)
    head = ClassActivation(4, spectral=False)
    weighted = x * (head.judge.weight + head.judge.bias).view(1, -1, 1, 1)
    plain = head.mix(torch.cat([weighted, weighted], dim=1))
    torch.testing.assert_close(head(x).features, plain, atol=1e-5, rtol=1e-4)
    average = head.judge(x.mean(dim=(2, 3)))[:, 0]
    torch.testing.assert_close(head(x).logits[:, 0], average)


def test_the_moments_stay_fp32_under_autocast():
    x = torch.randn(1, 3, 8, 8)
    norm = LayerInstanceNorm(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = norm((x + 100.0).bfloat16())
    assert half.dtype == torch.bfloat16
    exact = norm((x + 100.0).bfloat16().float())
    assert relative_error(half.float(), exact) < 0.02
    assert {kernel.ndim for kernel in kernels(ResidualBlock(2))} == {4}


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("border", [(1, 1, 1, 1), (3, 3, 3, 3), (1, 0, 1, 0), (1, 2, 1, 2)])
def test_a_border_has_its_gradient_in_a_fixed_order_too(mirrored, border):
    """What CUDA's own backward pass of a padding has not; PyTorch refuses it then."""
    images = torch.randn(2, 3, 7, 6, requires_grad=True)
    found = []
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        try:
            padded = layers._Border.apply(images, border, mirrored, True)
            (padded * torch.arange(padded.numel()).view_as(padded)).sum().backward()
        finally:
            torch.use_deterministic_algorithms(False)
        found.append(images.grad)
        images.grad = None
    torch.testing.assert_close(*found)
