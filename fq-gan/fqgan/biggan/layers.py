"""Layers of BigGAN: conditional norms in every style, blocks, attention, first weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..spectral_norm import SpectralConv2d, SpectralEmbedding, SpectralLinear
from .config import BigganConfig, Init, Norm

MOMENTUM = 0.1
GROUPS = 16  # of group norm; fewer where the channels do not divide


class BatchMoments(nn.Module):
    """Batch norm with biased running variance and standing statistics (``mybn``).

    While ``accumulating``, training-mode calls add their moments to the buffers and count
    themselves in ``accumulation_counter``; eval mode divides by that counter.
    """

    stored_mean: Tensor
    stored_var: Tensor
    accumulation_counter: Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps, self.accumulating = eps, False
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))
        self.register_buffer("accumulation_counter", torch.zeros(1))

    def reset(self) -> None:
        for buffer in (self.stored_mean, self.stored_var, self.accumulation_counter):
            buffer.zero_()

    def finish(self) -> None:
        """Turn sums into means, so that a saved state means the same everywhere."""
        count = self.accumulation_counter.clamp(min=1.0)
        self.stored_mean.div_(count)
        self.stored_var.div_(count)
        self.accumulation_counter.zero_()
        self.accumulating = False

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            count = self.accumulation_counter.clamp(min=1.0)
            mean, var = self.stored_mean / count, self.stored_var / count
            return F.batch_norm(features, mean, var, eps=self.eps)
        var, mean = torch.var_mean(features.detach().float(), dim=(0, 2, 3), correction=0)
        with torch.no_grad():
            if self.accumulating:
                self.stored_mean.add_(mean)
                self.stored_var.add_(var)
                self.accumulation_counter.add_(1.0)
            else:
                self.stored_mean.lerp_(mean, MOMENTUM)
                self.stored_var.lerp_(var, MOMENTUM)
        return F.batch_norm(features, None, None, training=True, eps=self.eps)


class _SumOverRanks(torch.autograd.Function):
    """Sum of a tensor over the ranks; each rank's gradient is that of all ranks' losses."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad


class RunningNorm(nn.Module):
    """What conditional and plain norm share: the normalization itself.

    Buffers ``stored_mean`` and ``stored_var`` (C,) for bn, sync-bn and in; a child ``bn`` for mybn.
    """

    stored_mean: Tensor
    stored_var: Tensor

    def __init__(self, channels: int, norm: Norm, eps: float) -> None:
        super().__init__()
        self.norm, self.eps, self.channels = norm, eps, channels
        self.standing = 0  # batches seen since standing statistics began; 0: not collecting
        if norm in ("bn", "sync-bn", "in"):
            self.register_buffer("stored_mean", torch.zeros(channels))
            self.register_buffer("stored_var", torch.ones(channels))

    def _add_moments(self) -> None:
        """Make the child of ``mybn``; last, because the authors' files have it last."""
        if self.norm == "mybn":
            self.bn = BatchMoments(self.channels, self.eps)

    def normalize(self, features: Tensor) -> Tensor:
        """(B, C, H, W) with zero mean and unit variance in the sense of ``norm``."""
        if self.norm == "none":
            return features
        if self.norm == "gn":
            return F.group_norm(features, math.gcd(GROUPS, self.channels), eps=self.eps)
        if self.norm == "mybn":
            return self.bn(features)
        momentum = 1.0 / self.standing if self.standing else MOMENTUM
        if self.norm == "sync-bn" and self.training and _distributed():
            return self._normalize_over_ranks(features, momentum)
        apply = F.instance_norm if self.norm == "in" else F.batch_norm
        return apply(
            features, self.stored_mean, self.stored_var, None, None, self.training, momentum,
            self.eps,
        )  # fmt: skip

    def _normalize_over_ranks(self, features: Tensor, momentum: float) -> Tensor:
        """Batch norm over the batches of all ranks together; the gradient crosses ranks too."""
        with torch.autocast(features.device.type, enabled=False):
            exact = features.float()
            # Around the running mean the squares lose no digits, and it is the same on all ranks.
            centred = exact - self.stored_mean.view(1, -1, 1, 1)
            sums = torch.stack([centred.sum(dim=(0, 2, 3)), centred.square().sum(dim=(0, 2, 3))])
            count = dist.get_world_size() * (features.numel() // self.channels)
            mean, square = (_SumOverRanks.apply(sums) / count).unbind()
            var = square - mean.square()
            with torch.no_grad():
                self.stored_mean.add_(mean, alpha=momentum)
                self.stored_var.lerp_(var * (count / max(count - 1, 1)), momentum)
            scale = torch.rsqrt(var + self.eps)
            return ((centred - _spread(mean)) * _spread(scale)).to(features.dtype)


class ConditionalNorm(RunningNorm):
    """Normalization whose gain 1 + g(y) and bias b(y) depend on the condition (Sec. 3.2 of BigGAN).

    Args:
        gain, bias: layers from the condition, class vectors (B, Y) or labels (B,), to (B, C).
    """

    def __init__(
        self, channels: int, gain: nn.Module, bias: nn.Module, norm: Norm, eps: float
    ) -> None:
        super().__init__(channels, norm, eps)
        self.gain, self.bias = gain, bias
        self._add_moments()

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        gain, bias = 1 + self.gain(condition), self.bias(condition)
        normalized = self.normalize(features)
        shape = (*gain.shape, 1, 1)
        dtype = normalized.dtype
        return torch.addcmul(bias.view(shape).to(dtype), normalized, gain.view(shape).to(dtype))


class AffineNorm(RunningNorm):
    """Normalization with one gain and bias per channel, in front of the last convolution."""

    def __init__(self, channels: int, norm: Norm, eps: float = 1e-5) -> None:
        super().__init__(channels, norm, eps)
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self._add_moments()

    def forward(self, features: Tensor) -> Tensor:
        if self.norm == "bn" and not self.standing:
            return F.batch_norm(
                features, self.stored_mean, self.stored_var, self.gain, self.bias, self.training,
                MOMENTUM, self.eps,
            )  # fmt: skip
        normalized = self.normalize(features)
        gain, bias = _spread(self.gain), _spread(self.bias)
        return normalized * gain.to(normalized.dtype) + bias.to(normalized.dtype)


@torch.no_grad()
def standing_statistics(generator: nn.Module, latents: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Recompute the norm statistics of ``generator`` as plain means over ``latents``.

    ``latents`` yields (z, y) batches. The generator is left in eval mode. The authors' code does
    this for ``mybn`` only; here it works for every norm that keeps statistics. Power iterations
    run on meanwhile, as in the authors' code.
    """
    running = [m for m in generator.modules() if isinstance(m, RunningNorm)]
    moments = [m for m in generator.modules() if isinstance(m, BatchMoments)]
    for part in moments:
        part.reset()
        part.accumulating = True
    generator.train()
    try:
        for number, (z, y) in enumerate(latents, start=1):
            for norm in running:
                norm.standing = number
            generator(z, y)
    finally:
        for norm in running:
            norm.standing = 0
        for part in moments:
            part.finish()
        generator.eval()


def _spread(vector: Tensor) -> Tensor:
    return vector.view(1, -1, 1, 1)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@dataclass(frozen=True)
class LayerFactory:
    """Makes the layers of one network in one style."""

    spectral: bool
    vectors: int
    iterations: int
    sn_eps: float
    norm: Norm = "bn"
    bn_eps: float = 1e-5
    num_classes: int = 0

    def conv(self, inputs: int, outputs: int, kernel: int, *, bias: bool = True) -> nn.Conv2d:
        """Convolution that keeps the size of the image; ``kernel`` is odd."""
        padding = kernel // 2
        if not self.spectral:
            return nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=bias)
        return SpectralConv2d(
            inputs, outputs, kernel, padding=padding, bias=bias, **self._spectrum()
        )

    def linear(self, inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
        if not self.spectral:
            return nn.Linear(inputs, outputs, bias=bias)
        return SpectralLinear(inputs, outputs, bias=bias, **self._spectrum())

    def embedding(self, number: int, size: int) -> nn.Embedding:
        if not self.spectral:
            return nn.Embedding(number, size)
        return SpectralEmbedding(number, size, **self._spectrum())

    def conditional_norm(self, channels: int, condition_dim: int) -> ConditionalNorm:
        """Norm layer conditioned on vectors, or on labels where ``condition_dim`` is 0."""
        gain, bias = (
            self.linear(condition_dim, channels, bias=False)
            if condition_dim
            else nn.Embedding(self.num_classes, channels)
            for _ in range(2)
        )
        return ConditionalNorm(channels, gain, bias, self.norm, self.bn_eps)

    def _spectrum(self) -> dict[str, Any]:
        return {"vectors": self.vectors, "iterations": self.iterations, "eps": self.sn_eps}


def generator_layers(config: BigganConfig) -> LayerFactory:
    own = config.generator
    return LayerFactory(
        own.spectral_norm, own.singular_vectors, own.power_iterations, config.sn_eps, own.norm,
        config.bn_eps, config.num_classes,
    )  # fmt: skip


def discriminator_layers(config: BigganConfig) -> LayerFactory:
    own = config.discriminator
    return LayerFactory(True, own.singular_vectors, own.power_iterations, config.sn_eps)


def stages(blocks: nn.ModuleList) -> Iterator[list[nn.Module]]:
    """The parts of each stage, in the order in which they are run."""
    for stage in blocks:
        assert isinstance(stage, nn.ModuleList)
        yield list(stage)


def upsample(features: Tensor) -> Tensor:
    """Nearest neighbour, twice as high and wide."""
    return F.interpolate(features, scale_factor=2.0)


class GeneratorBlock(nn.Module):
    """norm-relu-up-conv-norm-relu-conv plus a 1x1 shortcut: (B, I, H, W) -> (B, O, 2H, 2W)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        layers: LayerFactory,
        *,
        condition_dim: int,
        up: bool = True,
    ) -> None:
        super().__init__()
        self.up = up
        self.conv1 = layers.conv(inputs, outputs, 3)
        self.conv2 = layers.conv(outputs, outputs, 3)
        if up or inputs != outputs:
            self.conv_sc = layers.conv(inputs, outputs, 1)
        self.bn1 = layers.conditional_norm(inputs, condition_dim)
        self.bn2 = layers.conditional_norm(outputs, condition_dim)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        hidden = F.relu_(self.bn1(features, condition))
        hidden = self.conv1(upsample(hidden) if self.up else hidden)
        hidden = self.conv2(F.relu_(self.bn2(hidden, condition)))
        # A 1x1 convolution of the small image gives the same values as one of the large image.
        shortcut = self.conv_sc(features) if hasattr(self, "conv_sc") else features
        return hidden + (upsample(shortcut) if self.up else shortcut)


class DiscriminatorBlock(nn.Module):
    """(relu-)conv-relu-conv plus shortcut: (B, I, H, W) -> (B, O, H/2, W/2) or (B, O, H, W)."""

    def __init__(
        self, inputs: int, outputs: int, layers: LayerFactory, *, wide: bool = True,
        first: bool = False, down: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.first, self.down = first, down
        width = outputs if wide else inputs
        self.conv1 = layers.conv(inputs, width, 3)
        self.conv2 = layers.conv(width, outputs, 3)
        if down or inputs != outputs:
            self.conv_sc = layers.conv(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.conv1(features if self.first else F.relu(features))
        hidden = self.conv2(F.relu_(hidden))
        # Pooling and a 1x1 convolution commute; pooled first, the convolution costs a quarter.
        if self.down:
            hidden, features = F.avg_pool2d(hidden, 2), F.avg_pool2d(features, 2)
        return hidden + (self.conv_sc(features) if hasattr(self, "conv_sc") else features)


class SelfAttention(nn.Module):
    """Attention over positions, keys and values pooled 2x2 (Zhang et al., ICML 2019)."""

    def __init__(self, channels: int, layers: LayerFactory) -> None:
        super().__init__()
        if channels < 8:
            raise ValueError(f"attention needs at least 8 channels, the block has {channels}")
        self.theta = layers.conv(channels, channels // 8, 1, bias=False)
        self.phi = layers.conv(channels, channels // 8, 1, bias=False)
        self.g = layers.conv(channels, channels // 2, 1, bias=False)
        self.o = layers.conv(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        query = self.theta(features).flatten(2).mT  # (B, HW, C/8)
        key = F.max_pool2d(self.phi(features), 2).flatten(2).mT  # (B, HW/4, C/8)
        value = F.max_pool2d(self.g(features), 2).flatten(2).mT  # (B, HW/4, C/2)
        # As one head of (B, 1, HW, C): of three dimensions it would keep all (B, HW, HW/4) scores.
        query, key, value = (part.unsqueeze(1) for part in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0).squeeze(1)
        mixed = mixed.mT.unflatten(2, features.shape[2:])
        return torch.addcmul(features, self.gamma.to(features.dtype), self.o(mixed))


def initialize(network: nn.Module, style: Init) -> None:
    """Fill every weight of convolutions, linear layers and embeddings; biases stay as they are.

    ``ortho`` orthogonal, ``N02`` normal with deviation 0.02, ``glorot`` uniform (Glorot), ``none``
    PyTorch's own.
    """
    if style == "none":
        return
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.Linear | nn.Embedding):
            if style == "ortho":
                nn.init.orthogonal_(part.weight)
            elif style == "N02":
                nn.init.normal_(part.weight, std=0.02)
            else:
                nn.init.xavier_uniform_(part.weight)
