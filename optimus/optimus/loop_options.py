"""Options that the training commands of dialog, label control and classification share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .config import Device
from .runtime.precision import Precision


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError`` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ValueError(message)


def require_positive(options: object, *names: str, prefix: str = "") -> None:
    """Refuse numbers below 1 in the fields ``names``; ``prefix`` is the option group's name."""
    for name in names:
        value = getattr(options, name)
        option = prefix + name.replace("_", "-")
        require(value >= 1, f"--{option} must be at least 1, got {value}")


@dataclass(frozen=True)
class LoopOptions:
    """How long and where to train; running the same command again continues."""

    run_dir: Path = Path("runs/task")
    """Folder of the run: config, checkpoints, logs and the final model."""
    epochs: float = 1.0
    """Passes over the training examples, unless --max-steps is given."""
    max_steps: int = 0
    """Optimizer steps; 0 leaves the length to --epochs."""
    log_every: int = 100
    """Steps between two log lines."""
    save_every: int = 1000
    """Steps between two checkpoints; there is one at the end in any case."""
    keep: int = 2
    """Newest checkpoints that stay on disk."""
    seed: int = 42
    """Seed of python, numpy and torch; rank r uses seed + r."""
    device: Device = "auto"
    """Where to train."""
    precision: Precision = "fp32"
    """Arithmetic of the forward pass."""

    def __post_init__(self) -> None:
        require(self.epochs > 0, f"--epochs must be positive, got {self.epochs}")
        require(self.max_steps >= 0, f"--max-steps must not be negative, got {self.max_steps}")
        require_positive(self, "log_every", "save_every", "keep")

    def steps(self, batches_per_epoch: int) -> int:
        """Optimizer steps of the run."""
        return self.max_steps or max(1, int(self.epochs * batches_per_epoch))


def rows_per_process(batch_size: int, world_size: int) -> int:
    """Rows of one process in a batch of ``batch_size``; ``ValueError`` where that is uneven."""
    require(
        batch_size % world_size == 0,
        f"--data.batch-size {batch_size} must be a multiple of the {world_size} processes",
    )
    return batch_size // world_size
