"""Exponential moving average of a network: the copy that is sampled from."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


class ModelAverage:
    """A copy of ``model`` that follows it; parameters and buffers alike (u, sv, norm statistics).

    ``decay`` may be changed between updates.

    Args:
        model: what is averaged.
        decay: share of the old average that each update keeps.
        start: until this step the copy simply equals the model.
        average_buffers: False takes the model's buffers as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        decay: float = 0.9999,
        start: int = 0,
        *,
        average_buffers: bool = True,
    ) -> None:
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"the decay of the model average must be in [0, 1], got {decay}")
        self.decay, self.start, self.average_buffers = decay, start, average_buffers
        self.module = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Average <- decay * average + (1 - decay) * model, after step ``step`` (1-based).

        ``step`` 0 averages even before ``start``, as in the authors' code.
        """
        decay = 0.0 if 0 < step < self.start else self.decay
        targets, sources = _tensors(self.module), _tensors(model)
        end = len(targets) if self.average_buffers else len(list(model.parameters()))
        averaged = [i for i in range(end) if targets[i].is_floating_point()]
        copied = sorted(set(range(len(targets))) - set(averaged))
        if averaged:
            ends = [sources[i] for i in averaged]
            torch._foreach_lerp_([targets[i] for i in averaged], ends, 1.0 - decay)
        if copied:
            torch._foreach_copy_([targets[i] for i in copied], [sources[i] for i in copied])

    def state_dict(self) -> dict[str, Any]:
        """That of the averaged copy, with the model's own keys."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state)


def _tensors(module: nn.Module) -> list[Tensor]:
    return list(chain(module.parameters(), module.buffers()))
