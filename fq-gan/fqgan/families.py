"""Which module draws from and scores the runs and weights of each family of models.

``fqgan sample`` and ``fqgan evaluate`` look at the ``config.json`` of the folder they are given; a
family's name before the options (``fqgan sample stylegan2 --help``) decides where there is none.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from .runtime.rundir import read_plain


class Family(NamedTuple):
    mark: str  # a key of config.json that only runs and weights of this family have
    sample: str
    evaluate: str


FAMILIES: dict[str, Family] = {
    "biggan": Family("bn_eps", "fqgan.biggan.sample:main", "fqgan.biggan.evaluate:main"),
    "ugatit": Family("domain_names", "fqgan.ugatit.translate:main", "fqgan.ugatit.evaluate:main"),
    "stylegan2": Family("mapping", "fqgan.stylegan2.sample:main", "fqgan.stylegan2.evaluate:main"),
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
