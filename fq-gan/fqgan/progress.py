"""What a training run knows and notes of itself: steps, best score, sizes."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from .runtime import distributed
from .runtime.checkpoint import Progress
from .runtime.files import write_atomically


class RunProgress(Progress):
    """What a run knows of itself: its step, its best score, and how many were the best so far.

    Args:
        numbers: further ones, with their first values.
    """

    step: int
    best: float
    best_saved: int

    def __init__(self, **numbers: float) -> None:
        super().__init__(best=0.0, best_saved=0, **numbers)


def is_due(step: int, every: int, last: int = 0) -> bool:
    """Whether something that happens ``every`` steps (0: never), and at ``last``, happens now."""
    return every > 0 and (step % every == 0 or step == last)


def improves(value: float, metric: str, progress: RunProgress) -> bool:
    """Whether ``value`` is strictly better than any before; remembers it in ``progress``."""
    ahead = value - progress.best if metric == "inception_score" else progress.best - value
    if progress.best_saved > 0 and ahead <= 0:
        return False
    progress.best = value
    return True


def write_parameter_counts(run_dir: Path, **networks: nn.Module) -> None:
    """``parameters.json``: how many numbers each network learns."""
    if distributed.is_main():
        counts = {
            name: sum(parameter.numel() for parameter in network.parameters())
            for name, network in networks.items()
        }
        write_atomically(run_dir / "parameters.json", json.dumps(counts) + "\n")
