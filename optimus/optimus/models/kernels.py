"""The two operations written by hand: the loss of a tied 50k-way head, and rows of all processes.

The head is the largest product of the model and its logits the largest tensor. They are made here
in blocks of the vocabulary that stay in a cache, and turned into their own gradient in place; above
``KEEP_BYTES`` they are not kept at all but made again in the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

KEEP_BYTES = 2 << 30
"""Logits of a training step up to this size are kept for the backward pass."""
_BLOCK = {"cpu": 2048, "cuda": 16384}  # vocabulary entries whose logits are worked on at once
_ROWS = {"cpu": 1024, "cuda": 8192}  # rows at a time where no gradient is wanted


def linear_nll(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(hidden weight^T)[targets] per row.

    Args:
        hidden: (N, H) final states.
        weight: (V, H) the output embedding.
        targets: (N,) ids in [0, V).

    Returns:
        (N,) nats in fp32. The product runs in the autocast type if there is one, otherwise in that
        of ``hidden``; log-sum-exp is always fp32.
    """
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        hidden = hidden.to(torch.get_autocast_dtype(kind))
    with torch.autocast(kind, enabled=False):
        if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
            return _LinearNll.apply(hidden, weight, targets)
        weight = weight.to(hidden.dtype)
        rows = _ROWS.get(kind, 1024)
        parts = [
            _forward(chunk, weight, goal, keep=False)[0]
            for chunk, goal in zip(hidden.split(rows), targets.split(rows), strict=True)
        ]
        return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)


def _blocks(weight: Tensor) -> range:
    return range(0, len(weight), _BLOCK.get(weight.device.type, 8192))


def _logits(hidden: Tensor, weight: Tensor, start: int) -> Tensor:
    return hidden @ weight[start : start + _blocks(weight).step].t()


def _forward(
    hidden: Tensor, weight: Tensor, targets: Tensor, keep: bool
) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Losses (N,), log-sum-exps (N,) and, where ``keep``, what ``_shares`` makes of each block."""
    sums, kept = [], []
    goal = torch.zeros(len(hidden), dtype=torch.float32, device=hidden.device)
    for start in _blocks(weight):
        logits = _logits(hidden, weight, start)
        column, inside = _within(targets, start, logits.shape[1])
        goal += logits.gather(1, column[:, None])[:, 0].float() * inside
        shares, total = _shares(logits)
        sums.append(total)
        if keep:
            kept.append((shares.to(hidden.dtype), total))
    whole = torch.stack(sums).logsumexp(dim=0)
    return whole - goal, whole, kept


def _shares(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax within a block (N, width), and the block's log-sum-exp (N,), both fp32.

    The largest share is exp(top - total); reading it back saves a pass over the exponentials.
    """
    logits = logits.float()
    shares = logits.softmax(dim=1)
    return shares, logits.amax(dim=1) - shares.amax(dim=1).log_()


def _within(targets: Tensor, start: int, width: int) -> tuple[Tensor, Tensor]:
    """Column of each target in a block, clamped to it, and whether it really lies there."""
    column = targets - start
    return column.clamp(0, width - 1), (column >= 0) & (column < width)


class _LinearNll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        cast = weight.to(hidden.dtype)
        keep = hidden.shape[0] * weight.shape[0] * hidden.element_size() <= KEEP_BYTES
        loss, whole, kept = _forward(hidden, cast, targets, keep)
        ctx.save_for_backward(hidden, weight, targets, whole)
        ctx.kept = kept
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden, weight, targets, whole = ctx.saved_tensors
        cast = weight.to(hidden.dtype)
        # What was kept is overwritten below, so a second backward pass makes it anew.
        kept, ctx.kept = ctx.kept, []
        kept.reverse()
        grad_hidden = torch.zeros_like(hidden, dtype=torch.float32)
        grad_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        for start in _blocks(weight):
            shares, total = kept.pop() if kept else _shares(_logits(hidden, cast, start))
            column, inside = _within(targets, start, shares.shape[1])
            # (softmax - one-hot) * upstream
            slope = shares.mul_(((total - whole).exp() * upstream)[:, None])
            slope.scatter_add_(1, column[:, None], (-upstream * inside)[:, None].to(slope.dtype))
            slope = slope.to(hidden.dtype)
            stop = start + slope.shape[1]
            grad_hidden += slope @ cast[start:stop]
            if grad_weight is not None:
                grad_weight[start:stop] = slope.t() @ hidden
        return grad_hidden.to(hidden.dtype), grad_weight, None


class _GatherRows(torch.autograd.Function):
    """Forward: all processes' rows. Backward: each gets the gradients of all for its own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def gather_rows(rows: Tensor) -> Tensor:
    """``rows`` (B, Z) of every process, (world B, Z), in rank order; B must agree among them.

    DistributedDataParallel averages gradients over processes. A loss that every process computes
    from all rows then has the gradient it would have in one process.
    """
    return _GatherRows.apply(rows) if dist.is_initialized() else rows
