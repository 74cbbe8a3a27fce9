"""Running means of the losses of agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..runtime.distributed import reduce_sum


class Means:
    """Mean losses since the last record; part of the checkpoint, so that records repeat exactly.

    Args:
        device: of the losses.
        names: of the losses that may occur.
    """

    def __init__(self, device: torch.device, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.sums = torch.zeros(2, len(self.names), device=device)

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a step (no synchronisation)."""
        for i, name in enumerate(self.names):
            if name in losses:
                self.sums[0, i] += losses[name].detach()
                self.sums[1, i] += 1

    def take(self) -> dict[str, float]:
        """The means over all ranks of what occurred; starts anew."""
        totals, counts = reduce_sum(self.sums.clone()).tolist()
        self.sums.zero_()
        pairs = zip(self.names, totals, counts, strict=True)
        return {name: total / count for name, total, count in pairs if count}

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums.copy_(state["sums"])
