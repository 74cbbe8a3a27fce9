"""``fqgan train PRESET``: hands a preset of any family to that family's ``train``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from . import plots
from .config import PRESETS, TRAINERS
from .runtime.command import parse_preset


def main(argv: Sequence[str]) -> None:
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
