"""Rows of all processes together, differentiably: for losses that compare the rows of a batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


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
