"""A training command in forked processes: a new interpreter would take seconds to import."""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

FORK = multiprocessing.get_context("fork")
PATIENCE = 120.0  # seconds that a run of a few steps may take on a busy machine
IMPORTED_LATE = ("matplotlib.pyplot", "tensorboardX", "torch._dynamo", "tyro")

for name in IMPORTED_LATE:  # here once, or every forked command would do it anew
    if importlib.util.find_spec(name.partition(".")[0]):
        importlib.import_module(name)


@dataclass(frozen=True)
class Job:
    """The smallest run of the project.

    Args:
        main: the console script; takes the words of the command line and exits.
        words: command and options, but for the folder and the numbers of `command`.
    """

    main: Callable[[Sequence[str]], Any]
    words: tuple[str, ...]

    def command(self, run_dir: Path, steps: int, save_every: int) -> list[str]:
        numbers = ["--max-steps", str(steps), "--save-every", str(save_every)]
        return [*self.words, "--run-dir", str(run_dir), *numbers]

    def start(
        self, words: Sequence[str], *, ranks: int = 1, before: Callable[[int], None] | None = None
    ) -> Processes:
        """Run ``words`` in ``ranks`` processes; each calls ``before(rank)`` first."""
        run_dir = Path(words[words.index("--run-dir") + 1])
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        log = Path(tempfile.mkstemp(".log", run_dir.name, run_dir.parent)[1])
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]

        def work(rank: int) -> None:
            sys.stdout = sys.stderr = log.open("a", buffering=1)  # past the capture of pytest
            logging.root.handlers.clear()  # likewise
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks)}
            os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            os.environ["DISTRIBUTED_TIMEOUT"] = "30"
            torch.set_num_threads(1)  # a forked child can have one only
            if before:
                before(rank)
            self.main(words)

        processes = [FORK.Process(target=work, args=(rank,)) for rank in range(ranks)]
        for process in processes:
            process.start()
        return Processes(processes, log)

    def run(self, words: Sequence[str], **options: Any) -> Outcome:
        """Start ``words`` and wait for the end."""
        return self.start(words, **options).wait()


@dataclass(frozen=True)
class Outcome:
    """Exit codes by rank (negative: the signal that killed it), and what was printed."""

    codes: list[int | None]
    text: str

    @property
    def sentence(self) -> str:
        return self.text.strip().splitlines()[-1]


@dataclass(frozen=True)
class Processes:
    """The running processes of one command."""

    each: list[Any]
    log: Path

    def wait(self, seconds: float = PATIENCE) -> Outcome:
        """Wait for all; what still runs after ``seconds`` is killed and has the code None."""
        deadline = time.monotonic() + seconds
        codes: list[int | None] = []
        for process in self.each:
            process.join(max(0.1, deadline - time.monotonic()))
            codes.append(process.exitcode)
            process.kill()
            process.join()
        return Outcome(codes, self.log.read_text())


def together(function: Callable[[], Any], count: int = 4) -> None:
    """Call ``function`` in processes that start at the same moment; all have to end well."""
    barrier = FORK.Barrier(count)

    def work() -> None:
        torch.set_num_threads(1)  # a forked child can have one only
        barrier.wait(60)
        function()

    processes = [FORK.Process(target=work) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * count


def steps_of(run_dir: Path) -> list[int]:
    """Steps of the finished checkpoints, oldest first."""
    return sorted(int(path.name) for path in (run_dir / "checkpoints").glob("[0-9]*"))


def states(run_dir: Path) -> dict[str, Any]:
    """Every part of the newest checkpoint: weights, averages, optimizer, data, random states."""
    folder = run_dir / "checkpoints" / f"{steps_of(run_dir)[-1]:08d}"
    return {path.stem: torch.load(path, weights_only=True) for path in folder.glob("*.pt")}


def same(one: Any, other: Any) -> bool:
    """Whether two states are the same to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def assert_same_end(one: Path, other: Path) -> None:
    """Newest checkpoints and metrics of two runs are the same to the bit."""
    ours, theirs = states(one), states(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not same(ours[name], theirs[name])] == []
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
