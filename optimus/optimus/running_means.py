"""Means of named scalars over the steps between two log lines, as a part of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .runtime.distributed import reduce_mean


class RunningMeans:
    """Sums on the device, so that a step needs no synchronisation.

    Args:
        names: what is averaged.
        device: where the values are.
    """

    def __init__(self, names: Sequence[str], device: torch.device | str) -> None:
        self.names = tuple(names)
        self.sums = torch.zeros(len(self.names) + 1, dtype=torch.float64, device=device)

    def add(self, **values: Tensor) -> None:
        """Count one step; a tensor of several elements counts with its mean."""
        rows = [values[name].detach().double().mean() for name in self.names]
        self.sums += torch.stack([*rows, torch.ones_like(rows[0])])

    def share(self) -> None:
        """Make the sums those of all processes, on each of them alike."""
        reduce_mean(self.sums)

    def take(self) -> dict[str, float]:
        """The means; counting starts anew."""
        values = (self.sums[:-1] / self.sums[-1]).tolist()
        self.sums.zero_()
        return dict(zip(self.names, values, strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        return {"sums": self.sums}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.sums.copy_(state["sums"])
