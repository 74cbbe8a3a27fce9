"""The presets of all model families, and which function trains each."""

from __future__ import annotations

from typing import Any

from .biggan import presets as biggan
from .biggan.options import BigganTrain

PRESETS: dict[str, tuple[str, Any]] = {**biggan.PRESETS}

# The class of a preset's configuration -> the function that trains it, imported when it is used.
TRAINERS: dict[type, str] = {BigganTrain: "fqgan.biggan.train:train"}
