"""What ``--dry-run`` does: the options are checked as a start checks them, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from .. import loop
from ..config import check_sources
from ..runtime.command import DRY_RUN, parse_preset
from ..runtime.distributed import choose_device
from ..runtime.run_folder import RunFolder, settle_precision, settle_unused

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
    config = settle_precision(config, config.run_dir, choose_device(config.device), task.upgrade)
    config = settle_unused(config, config.run_dir, task.unused(config), task.upgrade)
    with RunFolder(config.run_dir, task.kind, config, fixed=task.fixed, upgrade=task.upgrade):
        pass


def parse_start(
    task: loop.Task, presets: Mapping[str, tuple[str, Config]], argv: Sequence[str], prog: str
) -> Config:
    """The options of a training command, as `parse_preset` reads them; see `try_start`.

    Raises ``ValueError`` naming an option in ``argv`` that the run would not use.
    """
    return parse_and_try(
        lambda words: parse_preset(presets, words, prog, task.unused),
        lambda found: try_start(task, found),
        argv,
    )
