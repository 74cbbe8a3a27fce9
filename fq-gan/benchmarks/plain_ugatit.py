"""The plain way of a U-GAT-IT iteration: what ours is measured against, written as formulas stand.

The authors' order: translate for the discriminators, judge real and translated images one after the
other, update; translate everything again for the generators, one image at a time, keep all graphs
until the sum of all losses is followed back, update. Nearest neighbour, mirrored border and
convolution are three steps, each norm normalizes the image on its own, attention weighs it twice.
"""

from __future__ import annotations

from functools import partial
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from plain import PlainQuantizer, plain_weight
from torch import Tensor, nn

from fqgan.quantizer import FeatureQuantizer, Quantized
from fqgan.spectral_norm import SpectralNorm
from fqgan.ugatit.config import StepConfig, UgatitConfig
from fqgan.ugatit.layers import (
    SMOOTHING,
    Activation,
    AdaptiveLayerInstanceNorm,
    ClassActivation,
    LayerInstanceNorm,
    ReflectConv2d,
    SpectralReflectConv2d,
    UpsampledConv2d,
)
from fqgan.ugatit.networks import UgatitNetworks, build_networks


class PlainDictionary(PlainQuantizer):
    """`PlainQuantizer` in the place of ours."""

    forward_mode = "commit_only"

    def forward(self, features: Tensor) -> Quantized:  # type: ignore[override]
        quantized, loss, perplexity = super().forward(features)
        return Quantized(quantized, loss, perplexity, loss)


def build_plain_networks(config: UgatitConfig) -> UgatitNetworks:
    """Our networks with every forward function replaced by the plain one."""
    networks = build_networks(config)
    for part in networks.modules():
        if isinstance(part, SpectralNorm):
            part.normalized_weight = MethodType(plain_weight, part)  # type: ignore[method-assign]
        for kind, forward in PLAIN_FORWARDS.items():
            if isinstance(part, kind):
                part.forward = MethodType(forward, part)
    for judge in networks.discriminators():
        judge.forward = partial(judge._judge, quantize=True, parts=1)  # type: ignore[method-assign]
        quantizers = judge.global_branch.quantizers
        for name, old in quantizers.items():
            assert isinstance(old, FeatureQuantizer)
            quantizers[name] = PlainDictionary(
                old.channels, old.codebook_size, old.commitment_weight, old.decay
            )
    return networks


class PlainStep:
    """A training iteration with the least-squares loss.

    Args:
        networks: of `build_plain_networks`.
        config: learning rate and weights.
        keep_graph: follow D's loss through the translations into the generators too, as U-GAT-IT's
            PyTorch code does before it throws that away.
    """

    def __init__(
        self, networks: UgatitNetworks, config: StepConfig, *, keep_graph: bool = False
    ) -> None:
        self.networks, self.config, self.keep_graph = networks, config, keep_graph
        self.g_optimizer, self.d_optimizer = (
            torch.optim.Adam(
                [p for one in parts for p in one.parameters()],
                config.lr, config.betas, config.adam_eps, weight_decay=config.l2_weight,
            )
            for parts in (networks.generators(), networks.discriminators())
        )  # fmt: skip

    def __call__(self, a: Tensor, b: Tensor) -> list[float]:
        networks = self.networks
        self.d_optimizer.zero_grad()
        with torch.set_grad_enabled(self.keep_graph):
            fakes = networks.b_to_a(b).images, networks.a_to_b(a).images
        losses = []
        for judge, real, fake in zip(networks.discriminators(), (a, b), fakes, strict=True):
            seen, made = judge(real), judge(fake)
            for x, y in zip(seen.all_logits, made.all_logits, strict=True):
                losses.append(F.mse_loss(x, torch.ones_like(x)))
                losses.append(F.mse_loss(y, torch.zeros_like(y)))
            losses += [seen.quantization_loss.mean(), made.quantization_loss.mean()]
        judged = torch.stack(losses).sum()
        judged.backward()
        self.d_optimizer.step()

        self.g_optimizer.zero_grad()
        played = self._generator_loss(a, b)
        played.backward()
        self.g_optimizer.step()
        for generator in networks.generators():
            generator.clip_rho()
        return [judged.item(), played.item()]

    def _generator_loss(self, a: Tensor, b: Tensor) -> Tensor:
        config, networks = self.config, self.networks
        total = []
        for source, there, back, judge in (
            (a, networks.a_to_b, networks.b_to_a, networks.judge_b),
            (b, networks.b_to_a, networks.a_to_b, networks.judge_a),
        ):
            target = b if source is a else a
            translated, kept = there(source), there(target)
            returned = back(translated.images)
            judged = judge(translated.images)
            for logits in judged.all_logits:
                total.append(F.mse_loss(logits, torch.ones_like(logits)))
            total.append(config.cycle_weight * F.l1_loss(returned.images, source))
            total.append(config.identity_weight * F.l1_loss(kept.images, target))
            yes, no = translated.cam_logits, kept.cam_logits
            cam = F.binary_cross_entropy_with_logits(yes, torch.ones_like(yes))
            cam = cam + F.binary_cross_entropy_with_logits(no, torch.zeros_like(no))
            total += [config.cam_weight * cam, judged.quantization_loss.mean()]
        return torch.stack(total).sum()


def _mixture(features: Tensor, rho: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    mean = features.mean(dim=(2, 3), keepdim=True)
    variance = features.var(dim=(2, 3), keepdim=True, correction=0)
    instance = (features - mean) / torch.sqrt(variance + 1e-5)
    mean = features.mean(dim=(1, 2, 3), keepdim=True)
    variance = features.var(dim=(1, 2, 3), keepdim=True, correction=0)
    layer = (features - mean) / torch.sqrt(variance + 1e-5)
    rho, gain, bias = (t[..., None, None] for t in (rho, gain, bias))
    return (rho * instance + (1 - rho) * layer) * gain + bias


def _plain_lin(self: Any, features: Tensor) -> Tensor:
    return _mixture(features, self.rho, self.weight, self.bias)


def _plain_adalin(self: Any, features: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    rho = (self.rho - SMOOTHING).clamp(0.0, 1.0) if self.smoothing else self.rho
    return _mixture(features, rho, gain, bias)


def _plain_reflected(self: Any, features: Tensor, *, relu: bool = False) -> Tensor:
    padded = F.pad(F.relu(features) if relu else features, self.border, mode="reflect")
    return F.conv2d(padded, self.weight, self.bias, self.stride)


def _plain_spectral(self: Any, features: Tensor) -> Tensor:
    padded = F.pad(features, self.border, mode="reflect")
    return F.conv2d(padded, self.normalized_weight(), self.bias, self.stride)


def _plain_upsampled(self: Any, features: Tensor, *, relu: bool = False) -> Tensor:
    larger = F.interpolate(F.relu(features) if relu else features, scale_factor=2)
    return F.conv2d(F.pad(larger, (1, 1, 1, 1), mode="reflect"), self.weight, self.bias)


def _plain_attention(self: Any, features: Tensor) -> Activation:
    logits, weighted = [], []
    for pool in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d):
        weight = self.judge.weight
        if isinstance(self.judge, SpectralNorm):
            weight = self.judge.normalized_weight()
        logits.append(F.linear(pool(features, 1).flatten(1), weight, self.judge.bias))
        weighted.append(features * (weight + self.judge.bias)[..., None, None])
    return Activation(self.mix(torch.cat(weighted, dim=1)), torch.cat(logits, dim=1))


PLAIN_FORWARDS: dict[type[nn.Module], Any] = {
    LayerInstanceNorm: _plain_lin,
    AdaptiveLayerInstanceNorm: _plain_adalin,
    ReflectConv2d: _plain_reflected,
    UpsampledConv2d: _plain_upsampled,  # one of those, so it comes after
    SpectralReflectConv2d: _plain_spectral,
    ClassActivation: _plain_attention,
}
