"""What a training run knows and notes of itself: steps, best score, sizes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from .runtime import distributed
from .runtime.checkpoint import Progress
from .runtime.files import write_atomically
from .runtime.signals import StopSignal


class Launch(Protocol):
    """What every training command asks for."""

    @property
    def device(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def deterministic(self) -> bool: ...


@contextmanager
def training(config: Launch) -> Iterator[tuple[distributed.World, StopSignal]]:
    """The processes of a run with their random state, and what signals ask of it."""
    world = distributed.start(config.device, seed=config.seed, deterministic=config.deterministic)
    with world as started, StopSignal() as stop:
        if started.device.type == "cuda" and not config.deterministic:
            torch.backends.cudnn.benchmark = True
        yield started, stop


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


def require_best_metric(metric: str, scores: Mapping[str, float], features: str) -> None:
    """Raise ``ValueError`` where the ``features`` give no score of the name ``metric``."""
    if metric not in scores:
        raise ValueError(
            f"--best-metric {metric} is not among the scores of --scoring.features {features} "
            f"({', '.join(scores)}); choose fid or other features"
        )


def write_parameter_counts(run_dir: Path, **networks: nn.Module) -> None:
    """``parameters.json``: how many numbers each network learns."""
    if distributed.is_main():
        counts = {
            name: sum(parameter.numel() for parameter in network.parameters())
            for name, network in networks.items()
        }
        write_atomically(run_dir / "parameters.json", json.dumps(counts) + "\n")
