"""The presets of all families, and which command answers for each kind of run."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from . import plots
from .runs import kind_of, train, unused_options
from .runtime.checkpoint import finished_steps
from .runtime.command import parse_preset
from .runtime.run_folder import CONFIG

Presets = dict[str, tuple[str, Any]]  # name -> explanation, options


class Verbs(NamedTuple):
    """The commands of a kind of run."""

    sample: str
    evaluate: str
    open_samples: str = ""  # what `score` takes of a run; none where it makes no images of noise


VERBS: dict[str, Verbs] = {
    "biggan": Verbs(
        "fqgan.biggan.commands:sample_main",
        "fqgan.biggan.commands:evaluate_main",
        "fqgan.biggan.commands:open_samples",
    ),
    "ugatit": Verbs("fqgan.ugatit.commands:translate_main", "fqgan.ugatit.commands:evaluate_main"),
    "stylegan2": Verbs(
        "fqgan.stylegan2.commands:sample_main",
        "fqgan.stylegan2.commands:evaluate_main",
        "fqgan.stylegan2.commands:open_samples",
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


def call(target: str, *arguments: Any, **options: Any) -> Any:
    """Import ``package.module:function`` and call it, such as with the command line."""
    module, _, function = target.partition(":")
    return getattr(importlib.import_module(module), function)(*arguments, **options)


def train_main(argv: Sequence[str]) -> None:
    """Run ``fqgan train biggan-c10 --quantizer.codebook-size 256``, then draw the curves."""
    config = parse_preset(presets_for(argv), argv, "fqgan train", refused_options)
    train(config)
    plots.try_plot(config.folder)


def refused_options(config: Any) -> dict[str, str]:
    """`unused_options`; as a folder's name depends on them, that of a begun run is told."""
    unused = unused_options(config)
    if config.run_dir or not finished_steps(config.folder):
        return unused
    more = f"; the run in {config.folder} goes on with --run-dir {config.folder}"
    return {name: reason + more for name, reason in unused.items()}


def presets_for(argv: Sequence[str]) -> Presets:
    """The named preset alone, where there is one: other families need not be imported."""
    word = argv[0] if argv else ""
    first = word.split("-")[0]
    own = presets_of(first if first in VERBS else "biggan")
    return {word: own[word]} if word in own else all_presets()


def presets_of(kind: str) -> Presets:
    """The presets of one family."""
    presets: Presets = importlib.import_module(f"fqgan.{kind}.config").PRESETS
    return presets


def all_presets() -> Presets:
    """The presets of all families."""
    return {name: preset for kind in VERBS for name, preset in presets_of(kind).items()}
