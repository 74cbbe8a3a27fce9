"""The presets of all model families, and which function trains each."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from . import plots
from .biggan import config as biggan
from .runs import kind_of, train
from .runtime.command import parse_preset
from .runtime.run_folder import CONFIG
from .stylegan2 import config as stylegan2
from .ugatit import config as ugatit

PRESETS: dict[str, tuple[str, Any]] = {**biggan.PRESETS, **stylegan2.PRESETS, **ugatit.PRESETS}


class Verbs(NamedTuple):
    """The commands of a kind of run."""

    sample: str
    evaluate: str


VERBS: dict[str, Verbs] = {
    "biggan": Verbs("fqgan.biggan.commands:sample_main", "fqgan.biggan.commands:evaluate_main"),
    "ugatit": Verbs("fqgan.ugatit.commands:translate_main", "fqgan.ugatit.commands:evaluate_main"),
    "stylegan2": Verbs(
        "fqgan.stylegan2.commands:sample_main", "fqgan.stylegan2.commands:evaluate_main"
    ),
}
FOLDERS = ("--run-dir", "--weights")


def sample(argv: Sequence[str]) -> None:
    """Run ``fqgan sample --run-dir RUN`` with the command of the run's family."""
    kind, rest = choose(argv)
    call(VERBS[kind].sample, rest)


def evaluate(argv: Sequence[str]) -> None:
    """Run ``fqgan evaluate --run-dir RUN`` with the command of the run's family."""
    kind, rest = choose(argv)
    call(VERBS[kind].evaluate, rest)


def choose(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The kind of run that the command line is about, and the command line without its name.

    A run or a folder of weights says its kind itself; where none is there, the command of BigGAN
    complains.
    """
    if argv and argv[0] in VERBS:
        return argv[0], list(argv[1:])
    words = [part for word in argv for part in word.split("=", 1)]
    for option, folder in pairwise(words):
        if option in FOLDERS and (Path(folder) / CONFIG).exists():
            kind = kind_of(folder)
            if kind not in VERBS:
                known = ", ".join(VERBS)
                raise ValueError(f"{option} {folder} is of kind {kind!r}; known are {known}")
            return kind, list(argv)
    return "biggan", list(argv)


def call(target: str, argv: Sequence[str]) -> None:
    """Import ``package.module:function`` and hand it the command line."""
    module, _, function = target.partition(":")
    getattr(importlib.import_module(module), function)(argv)


def train_main(argv: Sequence[str]) -> None:
    """Run ``fqgan train biggan-c10 --quantizer.codebook-size 256``, then draw the curves."""
    config = parse_preset(nearest(argv), argv, "fqgan train")
    train(config)
    plots.try_plot(config.folder)


def nearest(argv: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """The named preset alone, where there is one: its options are parsed many times faster."""
    if argv and argv[0] in PRESETS:
        # One more preset keeps the name on the command line a choice.
        return {name: PRESETS[name] for name in dict.fromkeys([argv[0], "smoke", "demo"])}
    return PRESETS
