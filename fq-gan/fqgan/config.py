"""The presets of all model families, and which function trains each."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from . import plots
from .biggan import config as biggan
from .biggan.config import BigganTrain
from .runtime.command import parse_preset
from .runtime.rundir import read_plain
from .stylegan2 import config as stylegan2
from .stylegan2.config import Stylegan2Train
from .ugatit import config as ugatit
from .ugatit.config import UgatitTrain

PRESETS: dict[str, tuple[str, Any]] = {**biggan.PRESETS, **stylegan2.PRESETS, **ugatit.PRESETS}

# The class of a preset's configuration -> the function that trains it, imported when it is used.
TRAINERS: dict[type, str] = {
    BigganTrain: "fqgan.biggan.train:train",
    Stylegan2Train: "fqgan.stylegan2.train:train",
    UgatitTrain: "fqgan.ugatit.train:train",
}


class Family(NamedTuple):
    mark: str  # a key of config.json that only runs and weights of this family have
    sample: str
    evaluate: str


FAMILIES: dict[str, Family] = {
    "biggan": Family(
        "bn_eps", "fqgan.biggan.commands:sample_main", "fqgan.biggan.commands:evaluate_main"
    ),
    "ugatit": Family(
        "domain_names",
        "fqgan.ugatit.commands:translate_main",
        "fqgan.ugatit.commands:evaluate_main",
    ),
    "stylegan2": Family(
        "mapping", "fqgan.stylegan2.commands:sample_main", "fqgan.stylegan2.commands:evaluate_main"
    ),
}
FOLDERS = ("--run-dir", "--weights")


def sample(argv: Sequence[str]) -> None:
    """Run ``fqgan sample --run-dir RUN`` with the command of the run's family."""
    family, rest = choose(argv)
    call(FAMILIES[family].sample, rest)


def evaluate(argv: Sequence[str]) -> None:
    """Run ``fqgan evaluate --run-dir RUN`` with the command of the run's family."""
    family, rest = choose(argv)
    call(FAMILIES[family].evaluate, rest)


def choose(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The family that the command line is about, and the command line without its name."""
    if argv and argv[0] in FAMILIES:
        return argv[0], list(argv[1:])
    words = [part for word in argv for part in word.split("=", 1)]
    for option, value in pairwise(words):
        if option in FOLDERS:
            return family_of(value), list(argv)
    return "biggan", list(argv)


def family_of(folder: str | Path) -> str:
    """The family of a run or of a folder of weights; BigGAN where nothing speaks for another.

    A folder without ``config.json`` is left for the command to complain about.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        return "biggan"
    keys = read_plain(path)
    return next((name for name, family in FAMILIES.items() if family.mark in keys), "biggan")


def call(target: str, argv: Sequence[str]) -> None:
    """Import ``package.module:function`` and hand it the command line."""
    module, _, function = target.partition(":")
    getattr(importlib.import_module(module), function)(argv)


def train_main(argv: Sequence[str]) -> None:
    """Run ``fqgan train biggan-c10 --quantizer.codebook-size 256``, then draw the curves."""
    config = parse_preset(nearest(argv), argv, "fqgan train")
    module, _, function = TRAINERS[type(config)].partition(":")
    getattr(importlib.import_module(module), function)(config)
    plots.try_plot(config.folder)


def nearest(argv: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """The named preset alone, where there is one: its options are parsed many times faster."""
    if argv and argv[0] in PRESETS:
        # One more preset keeps the name on the command line a choice.
        return {name: PRESETS[name] for name in dict.fromkeys([argv[0], "smoke", "demo"])}
    return PRESETS
