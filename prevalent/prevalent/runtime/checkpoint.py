"""Checkpoints of named parts: atomic, verified by digest, resumable to the bit.

``RUN/checkpoints/00001000/`` holds one ``PART.pt`` a part and ``digest.json``. A folder gets its
final name only when everything in it is on disk, so a killed save leaves the older one in force.
"""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import torch

from .distributed import barrier, gather_objects, is_main, rank, unwrap
from .files import digest, find_damage, flushed, remove_folder, remove_leftovers, replace_folder
from .random_state import get_random_state, set_random_state

logger = logging.getLogger(__name__)


class Progress:
    """Plain numbers that belong to a run's state, such as ``step`` and ``best``."""

    def __init__(self, **numbers: float) -> None:
        self.step = 0
        vars(self).update(numbers)

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class Checkpoint:
    """Save and restore ``parts``, objects with ``state_dict`` and ``load_state_dict``.

    The states of the random generators (python, numpy, torch, CUDA) of every rank are always
    included. Files are read with ``weights_only=True``: tensors and plain Python, never code.

    Args:
        run_dir: the run's folder.
        keep: how many of the newest stay.
    """

    def __init__(self, run_dir: str | Path, *, keep: int = 2, **parts: Any) -> None:
        self.folder = Path(run_dir) / "checkpoints"
        self.keep, self.parts = keep, parts

    def save(self, step: int) -> None:
        """Write the state after ``step``; on ``OSError`` the older checkpoints are still there."""
        random_states = gather_objects(get_random_state())
        if is_main():
            states = {name: unwrap(part).state_dict() for name, part in self.parts.items()}
            states["random"] = {"ranks": random_states}
            partial = self.folder / f".{step:08d}.partial"
            try:
                remove_leftovers(self.folder)
                partial.mkdir(parents=True)
                digests = {name: _write(partial / f"{name}.pt", states[name]) for name in states}
                with flushed(partial / "digest.json") as file:
                    file.write(json.dumps(digests, indent=1).encode())
                replace_folder(partial, self.folder / f"{step:08d}")
                for old in self.steps()[: -self.keep]:
                    remove_folder(self.folder / f"{old:08d}")
            except (OSError, RuntimeError) as error:
                remove_leftovers(self.folder)
                kept = max(self.steps(), default=None)
                raise OSError(
                    f"could not save step {step} in {self.folder} ({error}); newest checkpoint "
                    f"kept: {kept}; make room there and run the same command again"
                ) from error
        barrier()

    def load_latest(self) -> int:
        """Restore the newest valid checkpoint; returns its step, 0 if there is none."""
        step = gather_objects(self._newest_valid() if is_main() else 0)[0]
        if step == 0:
            return 0
        folder = self.folder / f"{step:08d}"
        for name, part in self.parts.items():
            unwrap(part).load_state_dict(_read(folder / f"{name}.pt"))
        ranks = _read(folder / "random.pt")["ranks"]
        if rank() < len(ranks):
            set_random_state(ranks[rank()])
        logger.info("continuing from step %d in %s", step, folder)
        return step

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, oldest first."""
        return sorted(int(path.name) for path in self.folder.glob("[0-9]*") if path.is_dir())

    def _newest_valid(self) -> int:
        for step in reversed(self.steps()):
            problem = find_damage(self.folder / f"{step:08d}", [*self.parts, "random"])
            if problem is None:
                return step
            logger.warning("checkpoint of step %d is damaged (%s); trying the older", step, problem)
        if self.steps():
            raise ValueError(
                f"all checkpoints in {self.folder} are damaged; remove that folder to start afresh"
            )
        return 0


def _write(path: Path, state: Any) -> str:
    with flushed(path) as file:
        torch.save(state, file)
    return digest(path)


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is refused: it holds more than tensors and numbers") from error
