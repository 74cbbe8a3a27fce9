"""Checkpoints of named parts: atomic, verified by digest, resumable to the bit.

``RUN/checkpoints/00001000/`` holds one ``PART.pt`` a part and ``digest.json``. A folder gets its
final name only when everything in it is on disk, so a killed save leaves the older one in force.
A part of which every process holds a share is a folder, see `shards`.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .distributed import barrier, gather_objects, is_main, rank, unwrap
from .files import (
    digest,
    file_of,
    find_damage,
    flushed,
    json_text,
    remove_folder,
    remove_leftovers,
    replace_folder,
)
from .random_state import get_random_state, set_random_state

logger = logging.getLogger(__name__)
DIGESTS = "digest.json"
SHARED = "shared"  # the part of which every process holds a share


class Progress:
    """Plain numbers that belong to a run's state, such as ``step`` and ``best``."""

    def __init__(self, **numbers: float) -> None:
        self.step = 0
        vars(self).update(numbers)

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class CheckpointMismatch(ValueError):
    """A checkpoint that is whole, but of another run than the options describe; says which."""


class Checkpoint:
    """Save and restore ``parts``, objects with ``state_dict`` and ``load_state_dict``.

    The part ``shared`` has ``shards`` and ``load_shards`` instead, whose tensors all processes
    write and read together.

    The states of the random generators (python, numpy, torch, CUDA) of every rank are always
    included. Files are read with ``weights_only=True``: tensors and plain Python, never code.

    Args:
        run_dir: the run's folder.
        keep: how many of the newest stay.
    """

    def __init__(self, run_dir: str | Path, *, keep: int = 2, **parts: Any) -> None:
        self.run_dir = Path(run_dir)
        self.folder = self.run_dir / "checkpoints"
        self.shared = parts.pop(SHARED, None)
        self.keep, self.parts = keep, parts

    def save(self, step: int) -> None:
        """Write the state after ``step``; on ``OSError`` the older checkpoints are still there."""
        random_states = gather_objects(get_random_state())
        if not is_main():
            self._write_shared(self._partial(step))
        else:
            states = {name: unwrap(part).state_dict() for name, part in self.parts.items()}
            states["random"] = {"ranks": random_states}
            with self._replacing(step) as partial:
                digests = self._write_shared(partial)
                digests |= {name: _write(partial / f"{name}.pt", states[name]) for name in states}
                _write_digests(partial, digests)
                replace_folder(partial, self.folder / f"{step:08d}")
                for old in self.steps()[: -self.keep]:
                    remove_folder(self.folder / f"{old:08d}")
        barrier()

    def amend(self, step: int, *names: str) -> None:
        """Replace the parts ``names`` of the checkpoint of ``step``; the other files stay."""
        if is_main():
            target = self.folder / f"{step:08d}"
            digests = json.loads((target / DIGESTS).read_text())
            with self._replacing(step) as partial:
                for file in map(file_of, digests.keys() - names):
                    (partial / file).parent.mkdir(exist_ok=True)
                    _link(target / file, partial / file)
                for name in names:
                    state = unwrap(self.parts[name]).state_dict()
                    digests[name] = _write(partial / f"{name}.pt", state)
                _write_digests(partial, digests)
                replace_folder(partial, target)
        barrier()

    def load_latest(self) -> int:
        """Restore the newest valid checkpoint; returns its step, 0 if there is none.

        Raises:
            CheckpointMismatch: it is of a run with other options.
            ValueError: all of them are damaged, or a file holds more than tensors and numbers.
        """
        step = gather_objects(self._newest_valid() if is_main() else 0)[0]
        if step == 0:
            return 0
        folder = self.folder / f"{step:08d}"
        for name, part in self.parts.items():
            _restore(unwrap(part), _read(folder / f"{name}.pt"), name, folder)
        if self.shared is not None:
            from .shards import read_shards  # two seconds of imports

            state = self.shared.shards()
            read_shards(state, folder / SHARED)
            self.shared.load_shards(state)
        ranks = _read(folder / "random.pt")["ranks"]
        if rank() < len(ranks):
            set_random_state(ranks[rank()])
        return step

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, oldest first."""
        return finished_steps(self.run_dir)

    def _partial(self, step: int) -> Path:
        return self.folder / f".{step:08d}.partial"

    def _write_shared(self, partial: Path) -> dict[str, str]:
        """Write the shares of all processes, which all call this; their digests on rank 0."""
        if self.shared is None:
            return {}
        from .shards import write_shards

        barrier()  # the folder is there
        write_shards(self.shared.shards(), partial / SHARED)
        if not is_main():
            return {}
        files = sorted((partial / SHARED).iterdir())
        return {f"{SHARED}/{one.name}": digest(one) for one in files}

    @contextmanager
    def _replacing(self, step: int) -> Iterator[Path]:
        """A hidden folder to fill; a failure leaves the finished checkpoints as they are."""
        partial = self._partial(step)
        try:
            remove_leftovers(self.folder)
            partial.mkdir(parents=True)
            yield partial
        except (OSError, RuntimeError) as error:
            remove_leftovers(self.folder)
            kept = max(self.steps(), default=None)
            raise OSError(
                f"could not save step {step} in {self.folder} ({error}); newest checkpoint "
                f"kept: {kept}; make room there and run the same command again"
            ) from error

    def _newest_valid(self) -> int:
        steps, problem = self.steps(), None
        for step in reversed(steps):
            problem = find_damage(self.folder / f"{step:08d}")
            if problem is None:
                self._require_parts(self.folder / f"{step:08d}")
                return step
            logger.warning("checkpoint of step %d is damaged (%s); trying the older", step, problem)
        if steps:
            raise ValueError(
                f"all checkpoints in {self.folder} are damaged, that of step {steps[0]} since "
                f"{problem}; put their files back, or remove that folder to start afresh"
            )
        return 0

    def _require_parts(self, folder: Path) -> None:
        present = {name.partition("/")[0] for name in json.loads((folder / DIGESTS).read_text())}
        wanted = [*self.parts, *([SHARED] if self.shared is not None else [])]
        missing = [name for name in wanted if name not in present]
        if missing:
            raise CheckpointMismatch(
                f"the checkpoint {folder} has no {', '.join(missing)}, which this run needs; it "
                "was made with other options: give those again, or another --run-dir"
            )


def finished_steps(run_dir: str | Path) -> list[int]:
    """Steps of the checkpoints in ``run_dir``, oldest first."""
    folder = Path(run_dir) / "checkpoints"
    return sorted(
        int(one.name) for one in folder.glob("*") if one.name.isdecimal() and one.is_dir()
    )


def read_part(run_dir: str | Path, name: str, step: int | None = None) -> tuple[Any, int]:
    """The state of one part, such as ``model``, in the newest whole checkpoint or that of ``step``.

    Returns:
        The state, and the step that it belongs to.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: the checkpoint is damaged or has no such part.
    """
    steps = finished_steps(run_dir)
    if step is not None and step not in steps:
        known = ", ".join(map(str, steps)) or "none"
        raise FileNotFoundError(f"--step {step}: {run_dir} has checkpoints of the steps {known}")
    problem: str | None = f"{run_dir} has no checkpoint yet"
    for one in [step] if step is not None else reversed(steps):
        folder = Path(run_dir) / "checkpoints" / f"{one:08d}"
        problem = find_damage(folder)
        if problem is None:
            if (folder / SHARED).is_dir() and not (folder / f"{name}.pt").exists():
                from .shards import read_whole

                return read_whole(folder / SHARED, name), one
            if not (folder / f"{name}.pt").exists():
                raise ValueError(f"the checkpoint {folder} has no part {name!r}")
            return _read(folder / f"{name}.pt"), one
        problem = f"the checkpoint {folder} is damaged ({problem})"
    raise (ValueError if steps else FileNotFoundError)(problem)


def _write(path: Path, state: Any) -> str:
    with flushed(path) as file:
        torch.save(state, file)
    return digest(path)


def _write_digests(folder: Path, digests: dict[str, str]) -> None:
    with flushed(folder / DIGESTS) as file:
        file.write(json_text(digests, indent=1).encode())


def _link(source: Path, target: Path) -> None:
    """One more name for a file; a copy where the file system has no such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is refused: it holds more than tensors and numbers") from error


def _restore(part: Any, state: Any, name: str, folder: Path) -> None:
    """Load ``state``; what a part cannot take is a `CheckpointMismatch`, not a traceback."""
    try:
        part.load_state_dict(state)
    except CheckpointMismatch:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
        reason = " ".join(str(error).split())
        if len(reason) > 300:
            reason = f"{reason[:300]} ..."
        raise CheckpointMismatch(
            f"the {name} of the checkpoint {folder} does not fit these options ({reason}); give "
            "the options that the run was started with, or another --run-dir"
        ) from error
