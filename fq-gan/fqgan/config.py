"""The presets of all model families, and which function trains each."""

from __future__ import annotations

from typing import Any

from .biggan import presets as biggan
from .biggan.options import BigganTrain
from .stylegan2 import presets as stylegan2
from .stylegan2.options import Stylegan2Train
from .ugatit import presets as ugatit
from .ugatit.options import UgatitTrain

PRESETS: dict[str, tuple[str, Any]] = {**biggan.PRESETS, **stylegan2.PRESETS, **ugatit.PRESETS}

# The class of a preset's configuration -> the function that trains it, imported when it is used.
TRAINERS: dict[type, str] = {
    BigganTrain: "fqgan.biggan.train:train",
    Stylegan2Train: "fqgan.stylegan2.train:train",
    UgatitTrain: "fqgan.ugatit.train:train",
}
