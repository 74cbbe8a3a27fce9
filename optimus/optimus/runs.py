"""A run as the commands find it: its kind, its options and its weights."""

from __future__ import annotations

import logging
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from .old_runs import upgrade
from .runtime.checkpoint import read_part
from .runtime.run_folder import (
    CONFIG,
    REACHED,
    Run,
    describe_unfinished,
    read_header,
    read_plain,
    read_run,
)

logger = logging.getLogger(__name__)


class Kind(NamedTuple):
    """What can be in a folder of a run."""

    config: str  # "module:Class" of its options in ``tasks``, imported when it is used
    commands: str  # those that use such a run
    settings: str  # a file that only the weights of this kind have, "" if there is none


KINDS = {
    "language-model": Kind("language_model:TrainConfig", "evaluate, generate", ""),
    "dialog": Kind("dialog:DialogConfig", "evaluate-dialog, generate", "spacefusion.json"),
    "label-control": Kind(
        "label_control:ControlConfig", "evaluate-label-control", "label_control.json"
    ),
    "classifier": Kind("classifier:ClassifierConfig", "train-classifier", "classifier.json"),
    "classifier-trial": Kind("classifier:ClassifierConfig", "train-classifier", ""),
}
SENTENCE_VAES = ("language-model", "dialog")
"""Kinds whose weights are a sentence VAE that encodes and decodes as it was trained to."""


class Weights(NamedTuple):
    """Weights for use."""

    folder: Path  # model and vocabularies
    state: dict[str, Any] | None  # tensors of a checkpoint, to be put in place of the folder's


def open_run(run_dir: str | Path, *wanted: str) -> Run:
    """The run in ``run_dir``, with the options of its kind.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: it is of none of the kinds ``wanted``, or an option is unknown or missing.
    """
    kind = read_header(run_dir, upgrade)["kind"]
    if wanted:
        _require_kind(run_dir, kind, wanted)
    configs = {name: _config(name) if name == kind else object for name in KINDS}
    return read_run(run_dir, configs, upgrade)


def find_weights(folder: str | Path, *wanted: str, step: int | None = None) -> Weights:
    """The weights in ``folder``, a run or a folder of weights.

    A run that has not come to its end is said to be unfinished.

    Args:
        folder: of a run of one of the kinds ``wanted``, or with weights of such a kind.
        wanted: the kinds that the caller can use.
        step: the checkpoint to take; None is the newest.

    Raises:
        FileNotFoundError: there is nothing, or no such step.
        ValueError: it is of another kind.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"{folder} {problem}; give the folder of a run or of weights")
    config = folder / CONFIG
    if not config.is_file() or "model_type" in read_plain(config):
        if step is not None:
            raise ValueError(f"--step {step}: {folder} holds weights of one step, and is no run")
        for kind, (_, _, settings) in KINDS.items():
            if settings and (folder / settings).is_file():
                _require_kind(folder, kind, wanted)
        return Weights(folder, None)
    open_run(folder, *wanted)
    weights = folder / "model"
    if not weights.is_dir():
        raise FileNotFoundError(
            f"{folder} has no weights yet, they come with the first checkpoint: give its training "
            "command again"
        )
    unfinished = describe_unfinished(folder)
    if unfinished is not None:
        logger.warning("%s", unfinished)
    return Weights(weights, None if step is None else read_part(folder, "model", step)[0])


def step_of(run_dir: Path | None, step: int | None = None) -> int | None:
    """The step of a run's weights: ``step``, if given, or the newest; None where it is unknown."""
    if step is None and run_dir is not None and (run_dir / REACHED).is_file():
        with suppress(ValueError, KeyError, TypeError):  # a damaged note, which is told elsewhere
            return int(read_plain(run_dir / REACHED)["step"])
    return step


def _require_kind(folder: str | Path, kind: str, wanted: tuple[str, ...]) -> None:
    if kind not in wanted:
        used = f" (for {KINDS[kind].commands})" if kind in KINDS else ""
        raise ValueError(
            f"{folder} is of kind {kind!r}{used}; this command takes {' or '.join(wanted)}"
        )


def _config(kind: str) -> type:
    module, name = KINDS[kind].config.split(":")
    config: type = getattr(import_module(f"{__package__}.tasks.{module}"), name)
    return config
