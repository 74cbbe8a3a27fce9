"""What ``--dry-run`` does: the options are checked as a start checks them, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from .. import loop
from ..config import check_sources, unused_options
from ..runtime.checkpoint import finished_steps
from ..runtime.command import DRY_RUN, parse_preset
from ..runtime.distributed import choose_device
from ..runtime.options import option
from ..runtime.run_folder import RunFolder, read_run, settle_precision

Config = TypeVar("Config")


def parse_and_try(
    read: Callable[[Sequence[str]], Config], check: Callable[[Config], Any], argv: Sequence[str]
) -> Config:
    """The options in ``argv``; with ``--dry-run`` they are checked as a start does, then printed.

    Args:
        read: parses words and, with ``--dry-run`` among them, prints the options and exits.
        check: raises what a start with these options would be refused for.
        argv: the words.
    """
    config = read([word for word in argv if word != DRY_RUN])
    if DRY_RUN in argv and not {"-h", "--help"} & set(argv):
        check(config)
        read(argv)
    return config


def try_start(task: loop.Task, config: Any) -> None:
    """Raise what a start of ``config`` is refused for before its data are read; leaves nothing.

    Device, precision, options of data, and the folder: a run of another kind, or one that was
    started with other options or is at work.
    """
    check_sources(config)
    config = with_unused_of_run(task, config)
    config = settle_precision(config, config.run_dir, choose_device(config.device), task.upgrade)
    with RunFolder(config.run_dir, task.kind, config, fixed=task.fixed, upgrade=task.upgrade):
        pass


def train(task: loop.Task, config: Any) -> loop.Training:
    """`loop.train`; a run that has begun keeps what it does not use, see `with_unused_of_run`."""
    return loop.train(task, with_unused_of_run(task, config))


def with_unused_of_run(task: loop.Task, config: Config) -> Config:
    """``config`` with what its run, where it has begun, has of the options that are not used.

    A run keeps some options from its first checkpoint on, and on the command line unused ones are
    refused: a run that was begun with such a one could not be continued otherwise.
    """
    run_dir = config.run_dir  # type: ignore[attr-defined]
    if not finished_steps(run_dir):
        return config
    try:
        before = read_run(run_dir, {task.kind: task.config}, task.upgrade).config
    except (ValueError, OSError):
        return config  # the start says what is wrong with the folder
    return _with_values_of(config, before, unused_options(config))


def _with_values_of(config: Any, other: Any, names: Collection[str], group: str = "") -> Any:
    changes = {}
    for name, value in ((field.name, getattr(config, field.name)) for field in fields(config)):
        if is_dataclass(value):
            changes[name] = _with_values_of(value, getattr(other, name), names, name)
        elif {option(name, group), f"--{group}."} & set(names):
            changes[name] = getattr(other, name)
    return replace(config, **changes)


def parse_start(
    task: loop.Task, presets: Mapping[str, tuple[str, Config]], argv: Sequence[str], prog: str
) -> Config:
    """The options of a training command, as `parse_preset` reads them; see `try_start`.

    Raises ``ValueError`` naming an option in ``argv`` that the run would not use.
    """
    return parse_and_try(
        lambda words: parse_preset(presets, words, prog, unused_options),
        lambda found: try_start(task, found),
        argv,
    )
