"""The training loop of every task: open, continue, step, check, log, save, evaluate, stop, finish.

The same file in the three projects. What is learned, and how, is the task's: `Training`.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from .runtime.checkpoint import Checkpoint, Progress
from .runtime.compilation import compile_regions
from .runtime.distributed import World, barrier, is_main, start
from .runtime.logs import Logs, ReportTo, check_report_to
from .runtime.precision import Precision
from .runtime.random_state import unchanged_random_state
from .runtime.run_folder import (
    RunFolder,
    Upgrade,
    settle_precision,
    settle_unused,
    write_reached,
)
from .runtime.signals import StopSignal

logger = logging.getLogger(__name__)


class RunOptions(Protocol):
    """Options that every training command has."""

    @property
    def run_dir(self) -> Path: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def deterministic(self) -> bool: ...
    @property
    def compile(self) -> bool: ...
    @property
    def keep(self) -> int: ...
    @property
    def patience(self) -> int: ...
    @property
    def report_to(self) -> ReportTo: ...


Options = TypeVar("Options", bound=RunOptions)


@dataclass(frozen=True)
class Intervals:
    """How often something happens, in the unit of progress; 0 is never."""

    log: int
    save: int
    evaluate: int = 0
    evaluate_at_end: bool = True


class RunProgress(Progress):
    """What a run knows of itself, as a part of its checkpoint.

    ``step`` counts the unit of progress, ``rows`` the lines of ``metrics.jsonl``; ``best`` holds
    the best value of every goal, ``waited`` the evaluations since the first goal became better, and
    ``evaluation_due`` says that this step was saved and is not evaluated yet.
    """

    def __init__(self, **numbers: Any) -> None:
        self.rows: int | None = None
        self.waited, self.evaluation_due = 0, False
        self.best: dict[str, float] = {}
        super().__init__(**numbers)

    def improve(self, goals: Mapping[str, float]) -> list[str]:
        """Names of the ``goals`` (higher is better) that were never as high; remembers them."""
        better = [name for name, value in goals.items() if value > self.best.get(name, -math.inf)]
        self.best |= {name: goals[name] for name in better}
        if goals:
            self.waited = 0 if next(iter(goals)) in better else self.waited + 1
        return better


class Training(ABC):
    """A run that is built and ready for its next step; a task derives its own from it.

    Attributes:
        config: options as the opening settled them; they go into ``config.json``.
        progress: where the run stands.
        total_steps: where it ends.
        parts: what a checkpoint holds, besides ``progress``.
        intervals: of log lines, checkpoints and evaluations.
        also: further things to do (samples, spectra), each with its interval.
        unit: what a step counts.
        length_option: the option that decides ``total_steps``.
        headline: the scalars that lines of the log show; all where it is empty.
        regions: what ``--compile`` compiles; nothing where it is not offered.
    """

    config: Any
    progress: RunProgress
    total_steps: int
    parts: Mapping[str, Any]
    intervals: Intervals
    also: Sequence[tuple[int, Callable[[Path], None]]] = ()
    unit: str = "step"
    length_option: str = "--max-steps"
    headline: Sequence[str] = ()
    regions: Sequence[nn.Module] = ()

    def begin(self, run_dir: Path, logs: Logs) -> None:  # noqa: B027 - may do nothing
        """Say what is learned from what, before the very first step."""

    @abstractmethod
    def step(self) -> None:
        """Take a step and count it in ``progress.step``."""

    @abstractmethod
    def check(self) -> None:
        """Raise ``FloatingPointError`` if a loss or weight is not finite: it is not saved then."""

    @abstractmethod
    def scalars(self) -> Mapping[str, float | Tensor | None]:
        """Means over the steps since the last call, for a row of ``metrics.jsonl``."""

    def evaluate(self) -> dict[str, float]:
        """Scores on held-out data, the same on every rank; empty where there is none."""
        return {}

    def goals(self, scores: Mapping[str, float]) -> dict[str, float]:
        """What of ``scores`` decides on a snapshot: its name and a value, higher is better.

        The first one decides when ``--patience`` ends the run.
        """
        return {}

    def gather(self) -> None:  # noqa: B027
        """Bring the weights together on rank 0 for ``export``; called on every rank."""

    @abstractmethod
    def export(self, run_dir: Path, name: str) -> None:
        """Write the weights for use: ``last``, or the name of a goal. Called on rank 0."""

    def finish(self, run_dir: Path, logs: Logs) -> None:  # noqa: B027
        """Draw curves and say where the result is, after the last step. Called on every rank."""


@dataclass(frozen=True)
class Task:
    """A kind of run: its name, its options and how it is opened.

    Attributes:
        kind: stands in ``config.json``.
        config: the dataclass of its options.
        open: opens data and builds networks; refuses what cannot be; writes nothing but what it
            puts into `RunFolder.place`.
        fixed: options that cannot change once there is a checkpoint (see `RunFolder`).
        upgrade: for the ``config.json`` of older versions.
        unused: options that a run of such a ``config`` does not use, see `refuse_unused`.
    """

    kind: str
    config: type
    open: Callable[[Any, World, RunFolder], Training]
    fixed: Sequence[str]
    upgrade: Upgrade
    unused: Callable[[Any], Mapping[str, str]] = lambda _: {}


def train(task: Task, config: RunOptions) -> Training:
    """Run ``config`` to its last step, continuing from the newest checkpoint in its folder.

    Raises:
        ValueError, FileNotFoundError: options, data or checkpoint are unusable; the folder is then
            as it was before.
        FloatingPointError: a loss or weight is not finite; the earlier checkpoints are kept.
        Stopped: a signal asked to stop; a checkpoint of this step was written.
    """
    with (
        start(config.device, seed=config.seed, deterministic=config.deterministic) as world,
        StopSignal() as stop,
    ):
        return train_in(world, stop, task, config)


def train_in(world: World, stop: StopSignal, task: Task, config: RunOptions) -> Training:
    """`train` in processes and with a handling of signals that the caller has opened."""
    check_report_to(config.report_to)
    config = settle_precision(config, config.run_dir, world.device, task.upgrade)
    config = settle_unused(config, config.run_dir, task.unused(config), task.upgrade)
    with RunFolder(
        config.run_dir, task.kind, config, fixed=task.fixed, upgrade=task.upgrade
    ) as folder:
        run = task.open(config, world, folder)
        if config.compile:
            compile_regions(run.regions, task.kind, world.device)
        run_dir, progress, every = folder.path, run.progress, run.intervals
        checkpoint = Checkpoint(run_dir, keep=config.keep, **run.parts, progress=progress)
        continued = checkpoint.load_latest() > 0
        if progress.step > run.total_steps:
            raise ValueError(
                f"{run.length_option} ends the run at {run.unit} {run.total_steps}, and the one in "
                f"{run_dir} has come to {progress.step}; give more to continue it, or use it as it "
                "is"
            )
        folder.commit(run.config)
        if continued:
            logger.info("continuing from %s %d in %s", run.unit, progress.step, run_dir)

        rows = progress.rows if continued else 0
        where: dict[str, Any] = {"unit": run.unit, "rows": rows, "headline": run.headline}
        where["report_to"] = config.report_to
        with Logs(run_dir, run.total_steps, progress.step, **where) as logs:
            if not continued:
                run.begin(run_dir, logs)
            elif progress.step == run.total_steps:
                save_last(run, run_dir)  # a kill may have come between checkpoint and export
            if progress.evaluation_due:
                evaluate(run, checkpoint, logs)
            steps_taken = 0
            while progress.step < run.total_steps and not is_out_of_patience(config, progress):
                before = progress.step
                run.step()
                steps_taken += 1
                logs.advance(progress.step)

                stopping = stop.requested(steps_taken)
                ended = progress.step >= run.total_steps
                logging_now = ended or passes(before, progress.step, every.log)
                evaluating = passes(before, progress.step, every.evaluate)
                evaluating |= ended and every.evaluate_at_end
                saving = stopping or ended or evaluating
                saving |= passes(before, progress.step, every.save)
                if logging_now or saving:
                    run.check()
                if logging_now:
                    logs.log(progress.step, **run.scalars())
                for interval, act in run.also:
                    if passes(before, progress.step, interval) or (ended and interval):
                        act(run_dir)
                if saving:
                    progress.evaluation_due = evaluating
                    save(run, checkpoint, logs)
                if evaluating and (ended or not stopping):
                    evaluate(run, checkpoint, logs)
                if stopping and not ended:
                    stop.leave(progress.step)
            if is_out_of_patience(config, progress) and is_main():
                logs.text(
                    f"{progress.waited} evaluations brought nothing better: the run ends here"
                )
                write_reached(run_dir, progress.step, progress.step, run.unit)
            run.finish(run_dir, logs)
            barrier()
    return run


def save(run: Training, checkpoint: Checkpoint, logs: Logs) -> None:
    """Write a checkpoint of this step, then the weights for use."""
    run.progress.rows = logs.rows
    checkpoint.save(run.progress.step)
    save_last(run, checkpoint.run_dir)


def save_last(run: Training, run_dir: Path) -> None:
    """The weights for use of this step, and how far the run has come."""
    export(run, run_dir, "last")
    if is_main():
        write_reached(run_dir, run.progress.step, run.total_steps, run.unit)


def export(run: Training, run_dir: Path, name: str) -> None:
    """Write the weights for use, which all ranks may have to bring together, on rank 0."""
    run.gather()
    if is_main():
        run.export(run_dir, name)


def evaluate(run: Training, checkpoint: Checkpoint, logs: Logs) -> None:
    """Score the run at a step that is saved already, and keep the weights that are the best so far.

    The training that follows draws the same random numbers as without an evaluation.
    """
    with unchanged_random_state():
        scores = run.evaluate()
    if scores:
        logs.log(run.progress.step, **scores)
    better = run.progress.improve(run.goals(scores))
    for name in better:
        export(run, checkpoint.run_dir, name)
    run.progress.rows, run.progress.evaluation_due = logs.rows, False
    checkpoint.amend(run.progress.step, "progress")


def passes(before: int, now: int, every: int) -> bool:
    """Whether a multiple of ``every`` (0: never) lies in (before, now]."""
    return every > 0 and now // every > before // every


def is_out_of_patience(config: RunOptions, progress: RunProgress) -> bool:
    """Whether ``--patience`` evaluations in a row brought nothing better."""
    return 0 < config.patience <= progress.waited
