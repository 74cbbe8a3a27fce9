"""Normalization layers of BigGAN's generator, conditional and plain, in every style."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .config import Norm

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
