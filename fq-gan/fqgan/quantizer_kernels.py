"""The heavy work of the quantizer: nearest codes, their sums and the commitment loss, in pieces.

No matrix of all vectors by all codes exists at any time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Elements of the score matrix that exist at one time: on a CPU what its caches hold and its matrix
# product needs to be efficient, on an accelerator enough to fill it.
CPU_CHUNK, DEVICE_CHUNK = 2**21, 2**25
CPU_ROWS = 1024  # vectors at one time, so that their pieces stay in the cache with few codes too


class Matches(NamedTuple):
    """What the comparison of R vectors with K codes gives."""

    nearest: Tensor  # (R,) index of the nearest code
    squared: Tensor  # (R,) squared distance to it
    uses: Tensor  # (K,) vectors per code, as floats
    sums: Tensor | None  # (K, C) sum of the vectors of each code, where wanted
    left_out: Tensor  # () vectors with NaN, Inf or an infinite square, in neither of the two


@torch.no_grad()
def find_nearest(features: Tensor, codes: Tensor, *, with_sums: bool) -> Matches:
    """The nearest of ``codes`` (K, C) of every C-vector of ``features`` (B, C, ...)."""
    device, (codebook_size, channels) = features.device, codes.shape
    half_norms = codes.square().sum(dim=1).mul_(0.5)
    number = features.numel() // channels
    step = min(rows_at_a_time(device, max(codes.shape)), number)
    scores = codes.new_empty(step, codebook_size)
    index = torch.empty(number, dtype=torch.long, device=device)
    squared = codes.new_empty(number)
    # Vectors that are not finite are counted and summed in a row of their own, behind the codes.
    rows = torch.empty_like(index)
    sums = codes.new_zeros(codebook_size + 1, channels) if with_sums else None
    start = 0
    for vectors in vectors_of(features, step):
        part = slice(start, start + len(vectors))
        start = part.stop
        picked, some = index[part], scores[: len(vectors)]
        torch.addmm(half_norms, vectors, codes.t(), alpha=-1, out=some)  # |e|^2 / 2 - x e
        picked.copy_(first_smallest(some))
        least = some.gather(1, picked.unsqueeze(1)).squeeze(1)
        torch.linalg.vector_norm(vectors, dim=1, out=squared[part])
        squared[part].square_().add_(least, alpha=2)
        rows[part].copy_(picked).masked_fill_(~squared[part].isfinite(), codebook_size)
        if sums is not None:
            sums.index_add_(0, rows[part], vectors)
    uses = count(rows, codebook_size + 1)
    own = None if sums is None else sums[:-1]
    return Matches(index, squared.clamp_(min=0.0), uses[:-1], own, uses[-1])


def count(index: Tensor, codebook_size: int) -> Tensor:
    """How often each code is in ``index`` (R,): (K,) floats; nothing waits for the device."""
    if index.device.type == "cpu":
        return torch.bincount(index, minlength=codebook_size).float()
    counts = torch.zeros(codebook_size, device=index.device)  # bincount would synchronize
    return counts.index_add_(0, index, torch.ones((), device=index.device).expand(len(index)))


class CommitmentLoss(torch.autograd.Function):
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
        try:
            features, index, codes = ctx.saved_tensors
        except RuntimeError as error:
            if "inplace" not in str(error):
                raise
            raise RuntimeError(
                "the features were changed in place behind the quantizer, whose backward pass "
                "needs them; the activation that follows it must have inplace=False"
            ) from error
        factor = grad * (2.0 / features[0].numel())
        return residual(features, codes, index, factor), None, None, None


def rows_at_a_time(device: torch.device, width: int) -> int:
    """How many vectors to treat at one time where one of them takes ``width`` numbers."""
    if device.type == "cpu":
        return min(max(1, CPU_CHUNK // width), CPU_ROWS)
    return max(1, DEVICE_CHUNK // width)


def residual(features: Tensor, codes: Tensor, index: Tensor, factor: Tensor) -> Tensor:
    """``factor * (features - codes[index])``, in the memory order of ``features`` (B, C, ...).

    Args:
        features: (B, C, ...).
        codes: (K, C).
        index: (B, ...).
        factor: (B,).
    """
    out = torch.empty_like(features)
    channels, positions = features.shape[1], index[0].numel()
    number = max(1, rows_at_a_time(features.device, channels) // positions)
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


def vectors_of(features: Tensor, step: int) -> Iterator[Tensor]:
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


def first_smallest(scores: Tensor) -> Tensor:
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
