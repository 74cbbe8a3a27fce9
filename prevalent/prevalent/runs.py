"""A run as the commands find it: its kind and its options."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from .loop import Task
from .old_runs import upgrade
from .runtime.run_folder import CONFIG, Run, describe_unfinished, read_header, read_run

logger = logging.getLogger(__name__)


class Kind(NamedTuple):
    """What can be in a folder of a run."""

    task: str  # "module:NAME" of its `Task`, imported when it is used
    commands: str  # those that use such a run


KINDS = {
    "pretraining": Kind("pretraining:TASK", "convert and --pretrained RUN/model"),
    "r2r": Kind("r2r:TASK", "evaluate, submit, trajectories, convert and demo --serve"),
    "graph": Kind("graph:TASK", "evaluate and submit"),
    "speaker": Kind("speaker:TASK", "convert and --speaker RUN"),
    "ndh": Kind("ndh:TASK", "evaluate, submit and convert"),
    "hanna": Kind("hanna:TASK", "evaluate"),
}


def task_of(kind: str) -> Task:
    """The task whose runs are of ``kind``."""
    module, name = KINDS[kind].task.split(":")
    task: Task = getattr(import_module(f"{__package__}.tasks.{module}"), name)
    return task


def open_run(run_dir: str | Path, *wanted: str) -> Run:
    """The run in ``run_dir``, with the options of its kind; says where it is unfinished.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: it is of none of the kinds ``wanted``, or an option is unknown or missing.
    """
    place = Path(run_dir).absolute()
    if place.parent.name == "snapshots" and (place.parents[1] / CONFIG).is_file():
        raise ValueError(
            f"{run_dir} is the snapshot {place.name} of a run and no run; give {place.parents[1]}"
        )
    kind = read_header(run_dir, upgrade)["kind"]
    if wanted and kind not in wanted:
        used = f", which is for {KINDS[kind].commands}" if kind in KINDS else ""
        raise ValueError(
            f"{run_dir} is a run of kind {kind!r}{used}; this command takes {' or '.join(wanted)}"
        )
    configs = {name: task_of(name).config if name == kind else object for name in KINDS}
    run = read_run(run_dir, configs, upgrade)
    unfinished = describe_unfinished(run_dir)
    if unfinished is not None:
        logger.warning("%s", unfinished)
    return run
