"""Soft-dot attention (Luong et al., 2015), under the authors' parameter names."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from .deferred import DeferredLinear


class Attended(NamedTuple):
    context: Tensor  # (B, k) or (B, Q, k) weighted sum of the memory
    weights: Tensor  # (B, N) or (B, Q, N)


def dot_products(queries: Tensor, memory: Tensor) -> Tensor:
    """(B, Q, N) of ``queries`` (B, Q, k) with ``memory`` (B, N, k).

    On a CPU a single query is read fastest as a column, but the backward pass of that order takes
    many times as long.
    """
    if queries.shape[1] == 1 and not torch.is_grad_enabled():
        return (memory @ queries.transpose(1, 2)).transpose(1, 2)
    return queries @ memory.transpose(1, 2)


class SoftDotAttention(nn.Module):
    """Queries of width q attend to a memory of width k.

    ``linear_out`` exists in every instance, as in the authors' files, though `scores` and `attend`
    do not use it.

    Args:
        query_size: q.
        context_size: k.
    """

    def __init__(self, query_size: int, context_size: int) -> None:
        super().__init__()
        self.linear_in = DeferredLinear(query_size, context_size, bias=False)
        self.linear_out = DeferredLinear(query_size + context_size, query_size, bias=False)

    def scores(self, query: Tensor, memory: Tensor, padding: Tensor | None = None) -> Tensor:
        """Dot products (B, N) of queries (B, q), or (B, Q, N) of (B, Q, q), with ``memory``.

        Args:
            query: one or Q queries for each item.
            memory: (B, N, k).
            padding: (B, N), True where the score shall be minus infinity.
        """
        target = self.linear_in(query)
        single = target.dim() == 2
        scores = dot_products(target.unsqueeze(1) if single else target, memory)
        if padding is not None:
            scores = scores.masked_fill(padding.unsqueeze(1), -torch.inf)
        return scores.squeeze(1) if single else scores

    def attend(self, query: Tensor, memory: Tensor, padding: Tensor | None = None) -> Attended:
        """The weighted memory alone; arguments as in `scores`."""
        weights = self.scores(query, memory, padding).softmax(dim=-1).to(memory.dtype)
        single = weights.dim() == 2
        context = (weights.unsqueeze(1) if single else weights) @ memory
        return Attended(context.squeeze(1) if single else context, weights)

    def forward(
        self, query: Tensor, memory: Tensor, padding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """tanh(W [context; query]) of the shape of ``query``, and the weights."""
        context, weights = self.attend(query, memory, padding)
        return torch.tanh(self.linear_out(torch.cat([context, query], dim=-1))), weights


class MergedAttention(SoftDotAttention):
    """Queries attend to M memories each, and what they find is merged before ``linear_out``.

    Args:
        query_size: q.
        context_size: k.
        num_memories: M; the rows of a memory are those of its M items, one after the other.
        merge: ``cat`` makes ``linear_out`` M times as wide.
    """

    def __init__(
        self,
        query_size: int,
        context_size: int,
        num_memories: int,
        merge: Literal["mean", "max", "sum", "cat"] = "mean",
    ) -> None:
        super().__init__(query_size, context_size)
        self.num_memories, self.merge = num_memories, merge
        if merge == "cat":
            width = query_size + num_memories * context_size
            self.linear_out = DeferredLinear(width, query_size, bias=False)

    def forward(
        self, query: Tensor, memory: Tensor, padding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """tanh(W [merged; query]) (B, q) of ``query`` (B, q) and ``memory`` (B M, N, k).

        The weights (B, M N) are those of all memories, one after the other.
        """
        repeated = query.repeat_interleave(self.num_memories, dim=0)
        found = self.attend(repeated, memory, padding)
        contexts = found.context.unflatten(0, (len(query), self.num_memories))  # (B, M, k)
        merged = {
            "mean": lambda: contexts.mean(dim=1),
            "max": lambda: contexts.amax(dim=1),
            "sum": lambda: contexts.sum(dim=1),
            "cat": lambda: contexts.flatten(1),
        }[self.merge]()
        recalled = torch.tanh(self.linear_out(torch.cat([merged, query], dim=-1)))
        return recalled, found.weights.reshape(len(query), -1)
