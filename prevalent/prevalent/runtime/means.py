"""Means of named scalars over the steps between two log lines, as a part of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .distributed import reduce_mean
from .precision import check_finite


class RunningMeans:
    """Sums and counts on the device, so that a step needs no synchronisation.

    Args:
        names: what may be averaged.
        device: where the values are.
    """

    def __init__(self, names: Sequence[str], device: torch.device | str) -> None:
        self.names = tuple(names)
        self.sums = torch.zeros(2, len(self.names), dtype=torch.float64, device=device)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Count what is there of the names; a tensor of several elements counts with its mean."""
        present = [i for i, name in enumerate(self.names) if name in values]
        means = [values[self.names[i]].detach().double().mean() for i in present]
        if len(present) == len(self.names):
            self.sums += torch.stack([torch.stack(means), torch.ones_like(self.sums[0])])
            return
        for i, mean in zip(present, means, strict=True):
            self.sums[0, i] += mean
            self.sums[1, i] += 1

    def share(self) -> None:
        """Make the sums those of all processes, on each of them alike."""
        reduce_mean(self.sums)

    def check(self, step: int) -> None:
        """Share the sums; raise ``FloatingPointError`` naming the first that is not finite."""
        self.share()
        if not torch.isfinite(self.sums).all():
            check_finite(step, **dict(zip(self.names, self.sums[0], strict=True)))

    def take(self) -> dict[str, float]:
        """The shared means of what was counted; counting starts anew."""
        totals, counts = self.sums.tolist()
        self.sums.zero_()
        pairs = zip(self.names, totals, counts, strict=True)
        return {name: total / count for name, total, count in pairs if count}

    def state_dict(self) -> dict[str, Tensor]:
        return {"sums": self.sums}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        sums = state["sums"]
        if sums.ndim == 1:  # of version 0.1: one count for all
            sums = torch.stack([sums[:-1], sums[-1].expand(len(self.names))])
        self.sums.copy_(sums)
