"""Feature quantization (Zhao et al., ICML 2020): the layer that any discriminator can use.

    quantizer = FeatureQuantizer(channels=256, codebook_size=1024)
    hidden = bottom(images)  # (B, 256, H, W)
    hidden, quantization_loss, *_ = quantizer(hidden)
    logits = top(hidden)
    loss = adversarial_loss(logits) + quantization_loss.mean()  # in D's steps and in G's

The file needs PyTorch only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .runtime.options import at_least

Numerics = Literal["biggan", "tf"]
ForwardMode = Literal["commit_only", "straight_through"]
Statistics = Literal["all", "rank0", "local"]

# Elements of the score matrix that exist at one time: on a CPU what its caches hold and its matrix
# product needs to be efficient, on an accelerator enough to fill it.
CPU_CHUNK, DEVICE_CHUNK = 2**21, 2**25
CPU_ROWS = 1024  # vectors at one time, so that their pieces stay in the cache with few codes too


class Quantized(NamedTuple):
    """What the layer returns for (B, C, H, W)."""

    features: Tensor  # (B, C, H, W) what the rest of the discriminator goes on with
    loss: Tensor  # (B,) commitment term, weighted
    codebook_perplexity: Tensor  # () 1 = one code in use, codebook_size = all used alike
    code_index: Tensor  # (B, H, W) nearest code of every position


class _Matches(NamedTuple):
    nearest: Tensor  # (R,) index of the nearest code
    squared: Tensor  # (R,) squared distance to it
    uses: Tensor  # (K,) vectors per code, as floats
    sums: Tensor | None  # (K, C) sum of the vectors of each code


class _CommitmentLoss(torch.autograd.Function):
    """Mean over (C, H, W) of (x - sg(code))^2.

    It is made of products that exist already; its gradient looks the codes up and is exact.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, squared: Tensor, index: Tensor, codes: Tensor
    ) -> Tensor:
        ctx.save_for_backward(features, index, codes)
        return squared.view(len(features), -1).sum(dim=1) / features[0].numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, index, codes = ctx.saved_tensors
        factor = grad * (2.0 / features[0].numel())
        return _residual(features, codes, index, factor), None, None, None


class FeatureQuantizer(nn.Module):
    """Compare every C-vector of a feature map with a dictionary that follows the features.

    The dictionary is not trained by gradients: each code is the moving average of the vectors it
    was nearest to, updated by every training-mode call (with or without gradients). Buffers have
    the names and shapes of the authors' BigGAN checkpoints.

    Args:
        channels: C, the width of the feature map.
        codebook_size: K, the number of codes.
        commitment_weight: factor of the loss.
        decay: of the moving averages, per call.
        eps: Laplace smoothing of the counts.
        numerics: ``biggan`` has plain averages (a code that is never used jumps to about 1e5 and
            shrinks); ``tf`` is TensorFlow's zero-debiased average of U-GAT-IT and StyleGAN (an
            unused code is the zero vector). The random first dictionary is N(0, 1), with ``tf``
            forgotten at the first update.
        forward_mode: ``commit_only`` returns the input features, as the released code does in all
            three families; ``straight_through`` returns the codes, as in the paper, with the
            gradient of the identity.
        warmup_calls: training-mode calls before ``straight_through`` begins.
        statistics: over which ranks counts and sums go into the dictionary: ``all``, ``rank0``
            (as the authors' DataParallel) or ``local`` (as their StyleGAN: dictionaries drift).
        revive_below: codes with a smaller average count are replaced by vectors of the current
            batch, and their averages with them; 0 switches it off, as in the released code.
    """

    embed: Tensor
    cluster_size: Tensor
    embed_avg: Tensor
    steps: Tensor

    def __init__(
        self,
        channels: int,
        codebook_size: int,
        *,
        commitment_weight: float = 0.5,
        decay: float = 0.8,
        eps: float = 1e-5,
        numerics: Numerics = "biggan",
        forward_mode: ForwardMode = "commit_only",
        warmup_calls: int = 0,
        statistics: Statistics = "all",
        revive_below: float = 0.0,
    ) -> None:
        super().__init__()
        if channels < 1 or codebook_size < 1:
            raise ValueError(
                f"a codebook needs channels and codes, got {channels}, {codebook_size}"
            )
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"the decay of the codebook must be in [0, 1), got {decay}")
        self.channels, self.codebook_size = channels, codebook_size
        self.commitment_weight, self.decay, self.eps = commitment_weight, decay, eps
        self.numerics, self.forward_mode, self.statistics = numerics, forward_mode, statistics
        self.warmup_calls, self.revive_below = warmup_calls, revive_below
        # (C, K) as in the authors' files, but stored code by code: rows of `codes` are contiguous.
        self.register_buffer("embed", torch.randn(codebook_size, channels).t())
        self.register_buffer("cluster_size", torch.zeros(codebook_size))
        average = self.embed.t().clone() if numerics == "biggan" else torch.zeros_like(self.codes)
        self.register_buffer("embed_avg", average.t())
        if numerics == "tf" or (forward_mode == "straight_through" and warmup_calls > 0):
            self.register_buffer("steps", torch.zeros(()))  # training-mode calls so far
        self.last_perplexity = torch.ones(())
        self.last_usage = torch.zeros(())

    @property
    def codes(self) -> Tensor:
        """The dictionary as (K, C)."""
        return self.embed.t()

    def set_codes(self, codes: Tensor) -> None:
        """Start from ``codes`` (K, C), for another initial distribution."""
        self.codes.copy_(codes)
        if self.numerics == "biggan":
            self.embed_avg.t().copy_(codes)

    def averages(self) -> tuple[Tensor, Tensor]:
        """Average counts (K,) and sums (C, K), without the bias towards the zero start in ``tf``.

        In ``tf`` the buffers ``cluster_size`` and ``embed_avg`` hold TensorFlow's ``biased``
        variables and ``steps`` its ``local_step``; this returns ``ema_cluster_size``, ``ema_dw``.
        """
        if self.numerics == "biggan":
            return self.cluster_size, self.embed_avg
        weight = 1.0 - self.decay ** self.steps.clamp(min=1.0)
        return self.cluster_size / weight, self.embed_avg / weight

    def dead_codes(self, below: float = 0.01) -> Tensor:
        """How many codes have an average count under ``below``; () integer, stays on the device."""
        return (self.averages()[0] < below).sum()

    def forward(self, features: Tensor) -> Quantized:
        """Quantize ``features`` (B, C, H, W), or (B, C, ...); fp32 under any autocast.

        Backward reads ``features`` again: an activation in place may not follow.
        """
        if features.ndim < 2 or features.shape[1] != self.channels:
            raise ValueError(
                f"the quantizer has {self.channels} channels in dimension 1, "
                f"features of shape {tuple(features.shape)} do not"
            )
        with torch.autocast(features.device.type, enabled=False):
            exact = features.float()
            codes = self.codes.clone()  # the update moves the dictionary before backward
            found = self._match(exact.detach())
            index = found.nearest.view(features.shape[0], *features.shape[2:])
            loss = _CommitmentLoss.apply(exact, found.squared, index, codes)
            loss = self.commitment_weight * loss
            passed = features
            if self.forward_mode == "straight_through":
                offset = _residual(exact.detach(), codes, index, self._gate(exact))
                passed = (exact - offset).to(features.dtype)
            counts = self._update(exact, found) if self.training else found.uses
            self._summarize(counts)
        return Quantized(passed, loss, self.last_perplexity, index)

    @torch.no_grad()
    def _match(self, features: Tensor) -> _Matches:
        """Nearest code of every vector, in chunks: no matrix of all vectors by all codes exists."""
        codes, device = self.codes, features.device
        half_norms = codes.square().sum(dim=1).mul_(0.5)
        number = features.numel() // self.channels
        step = min(_rows(device, max(codes.shape)), number)
        scores = codes.new_empty(step, self.codebook_size)
        index = torch.empty(number, dtype=torch.long, device=device)
        squared = codes.new_empty(number)
        sums = torch.zeros_like(codes) if self.training else None
        start = 0
        for vectors in _vectors(features, step):
            part = slice(start, start + len(vectors))
            start = part.stop
            picked, some = index[part], scores[: len(vectors)]
            torch.addmm(half_norms, vectors, codes.t(), alpha=-1, out=some)  # |e|^2 / 2 - x e
            picked.copy_(_first_smallest(some))
            least = some.gather(1, picked.unsqueeze(1)).squeeze(1)
            torch.linalg.vector_norm(vectors, dim=1, out=squared[part])
            squared[part].square_().add_(least, alpha=2)
            if sums is not None:
                sums.index_add_(0, picked, vectors)
        return _Matches(index, squared.clamp_(min=0.0), self._count(index), sums)

    def _count(self, index: Tensor) -> Tensor:
        if index.device.type == "cpu":
            return torch.bincount(index, minlength=self.codebook_size).float()
        counts = torch.zeros(self.codebook_size, device=index.device)  # bincount would synchronize
        return counts.index_add_(0, index, torch.ones((), device=index.device).expand(len(index)))

    @torch.no_grad()
    def _update(self, features: Tensor, found: _Matches) -> Tensor:
        """Move averages and codes by one call; returns the counts over all ranks (K,)."""
        assert found.sums is not None
        counts, sums = self._over_ranks(found.uses, found.sums)
        average = self.embed_avg.t()
        self.cluster_size.mul_(self.decay).add_(counts, alpha=1.0 - self.decay)
        average.mul_(self.decay).add_(sums, alpha=1.0 - self.decay)
        if hasattr(self, "steps"):
            self.steps.add_(1.0)
        if self.revive_below > 0.0:
            self._revive(features)
        size, total = self.averages()
        number = size.sum()
        smoothed = (size + self.eps) / (number + self.codebook_size * self.eps) * number
        torch.div(total.t(), smoothed.unsqueeze(1), out=self.codes)
        return counts

    def _over_ranks(self, counts: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        if self.statistics == "local" or not _distributed():
            return counts, sums
        packed = torch.cat([counts, sums.flatten()])
        if self.statistics == "all":
            dist.all_reduce(packed)
        else:
            dist.broadcast(packed, src=0)
        return packed[: len(counts)], packed[len(counts) :].view_as(sums)

    def _revive(self, features: Tensor) -> None:
        """Set codes that nothing uses to random vectors of the batch.

        The averages are set too: with the old sums the next line would undo the revival.
        """
        rows = features.detach().movedim(1, -1).reshape(-1, self.channels)
        chosen = torch.randint(len(rows), (self.codebook_size,), device=rows.device)
        candidates = rows[chosen]
        if self.statistics != "local" and _distributed():
            dist.broadcast(candidates, src=0)
        size, _ = self.averages()
        dead = size < self.revive_below
        weight = torch.ones_like(size)
        if self.numerics == "tf":
            weight = weight * (1.0 - self.decay**self.steps)
        average = self.embed_avg.t()
        self.cluster_size.copy_(torch.where(dead, weight, self.cluster_size))
        revived = candidates * weight.unsqueeze(1)
        average.copy_(torch.where(dead.unsqueeze(1), revived, average))

    def _gate(self, features: Tensor) -> Tensor:
        """(B,) 1 where codes are passed on, 0 during the warm-up; nothing waits for it."""
        if self.warmup_calls == 0:
            return features.new_ones(len(features))
        return (self.steps >= self.warmup_calls).float().expand(len(features))

    def _summarize(self, counts: Tensor) -> None:
        share = counts / counts.sum()
        self.last_perplexity = torch.exp(-(share * torch.log(share + 1e-10)).sum())
        self.last_usage = (counts > 0).float().mean()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FeatureQuantizer:
        """Moves to another device, but stays fp32: the averages of unused codes overflow fp16."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in self._buffers.items():
            old = before[name]
            if buffer is not None and old is not None and buffer.dtype != old.dtype:
                self._buffers[name] = old.to(buffer.device)
        return self

    def extra_repr(self) -> str:
        return (
            f"channels={self.channels}, codebook_size={self.codebook_size}, "
            f"commitment_weight={self.commitment_weight}, decay={self.decay}, "
            f"numerics={self.numerics}, forward_mode={self.forward_mode}"
        )


def _rows(device: torch.device, width: int) -> int:
    """How many vectors to treat at one time where one of them takes ``width`` numbers."""
    if device.type == "cpu":
        return min(max(1, CPU_CHUNK // width), CPU_ROWS)
    return max(1, DEVICE_CHUNK // width)


def _residual(features: Tensor, codes: Tensor, index: Tensor, factor: Tensor) -> Tensor:
    """``factor * (features - codes[index])``, in the memory order of ``features`` (B, C, ...).

    Args:
        features: (B, C, ...).
        codes: (K, C).
        index: (B, ...).
        factor: (B,).
    """
    out = torch.empty_like(features)
    channels, positions = features.shape[1], index[0].numel()
    number = max(1, _rows(features.device, channels) // positions)
    factor = factor.view(-1, *[1] * (features.ndim - 1))
    # Where the positions of a channel lie side by side, numbers are picked channel by channel.
    by_channel = features.is_contiguous() and 2 * codes.numel() <= features.numel()
    table = codes.t().contiguous() if by_channel else codes
    parts = (part.split(number) for part in (features, out, index, factor))
    for some, place, picked, own in zip(*parts, strict=True):
        if by_channel:
            where = picked.reshape(len(some), 1, -1).expand(-1, channels, -1)
            rows = place.view(len(some), channels, -1)
            torch.gather(table.expand(len(some), -1, -1), 2, where, out=rows)
        else:
            place.copy_(F.embedding(picked, table).movedim(-1, 1))
        torch.sub(some, place, out=place).mul_(own)
    return out


def _vectors(features: Tensor, step: int) -> Iterator[Tensor]:
    """The C-vectors of (B, C, ...) in order, as contiguous (up to ``step``, C) pieces.

    Pieces are views where ``features`` is channels_last, else small copies that stay in the cache.
    """
    rows = features.flatten(2).mT if features.ndim > 2 else features.unsqueeze(1)  # (B, P, C)
    positions = rows.shape[1]
    if rows.is_contiguous():
        yield from rows.flatten(0, 1).split(step)
    elif positions < step:
        for some in rows.split(step // positions):
            yield some.flatten(0, 1)
    else:
        for one in rows:
            for some in one.split(step):
                yield some.contiguous()


def _first_smallest(scores: Tensor) -> Tensor:
    """Index (R,) of the smallest score (R, K) of each row, the first one where several are equal.

    On a CPU ``argmin`` is not vectorized and ``amin`` is: find the best block, then look inside.
    """
    rows, number = scores.shape
    block = 64 if number >= 1024 else 32
    if scores.device.type != "cpu" or number % block or number < 4 * block:
        return scores.argmin(dim=1)
    blocks = scores.view(rows, number // block, block)
    best = blocks.amin(dim=2).argmin(dim=1)
    inside = blocks[torch.arange(rows), best].argmin(dim=1)
    return best.mul_(block).add_(inside)


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def quantizer_statistics(module: nn.Module) -> dict[str, Tensor]:
    """Diagnostics of every quantizer inside ``module``, as tensors () that nothing waited for.

    ``NAME/codebook_perplexity`` and ``NAME/usage`` (share of codes used) describe the last call,
    ``NAME/dead`` is the number of codes whose average count is below 0.01.
    """
    values: dict[str, Tensor] = {}
    for name, part in module.named_modules():
        if isinstance(part, FeatureQuantizer):
            values[f"{name}/codebook_perplexity"] = part.last_perplexity
            values[f"{name}/usage"] = part.last_usage
            values[f"{name}/dead"] = part.dead_codes()
    return values


@dataclass(frozen=True)
class QuantizerOptions:
    """Feature quantization in the discriminator."""

    layers: tuple[int, ...] = ()
    """Layers that are quantized; none at all is the plain network."""
    codebook_size: int = 0
    """Number of codes per layer; 0: the authors' for each layer."""
    commitment_weight: float = 0.25
    """Factor of the commitment loss."""
    decay: float = 0.8
    """Decay of the moving averages that make the dictionary, per forward pass."""
    forward: ForwardMode = "commit_only"
    """What goes on through the network: the features (released code) or the codes (paper)."""
    warmup_calls: int = 0
    """Forward passes of D before straight_through begins (those of D's and of G's steps count)."""
    statistics: Statistics = "all"
    """Ranks whose features move the dictionary; rank0, local: as the authors' BigGAN, StyleGAN."""
    revive_below: float = 0.0
    """Replace codes whose average count is smaller; 0: never."""

    def __post_init__(self) -> None:
        at_least(
            self, "quantizer", codebook_size=0, commitment_weight=0, warmup_calls=0, revive_below=0
        )
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"--quantizer.decay must be in [0, 1), got {self.decay}")
        if len(set(self.layers)) != len(self.layers) or any(layer < 0 for layer in self.layers):
            raise ValueError(
                f"--quantizer.layers must be different numbers of layers, got {self.layers}"
            )

    def build(
        self, channels: int, codebook_size: int, numerics: Numerics = "biggan"
    ) -> FeatureQuantizer:
        """The quantizer of one layer with features (B, ``channels``, H, W)."""
        return FeatureQuantizer(
            channels,
            codebook_size,
            commitment_weight=self.commitment_weight,
            decay=self.decay,
            numerics=numerics,
            forward_mode=self.forward,
            warmup_calls=self.warmup_calls,
            statistics=self.statistics,
            revive_below=self.revive_below,
        )
