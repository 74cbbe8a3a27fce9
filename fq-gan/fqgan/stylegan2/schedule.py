"""What training does after so many images: resolution, batch size, learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from .config import ScheduleConfig

# Thousands of images between two rows of the log, by resolution.
TICK_KIMG = {8: 28.0, 16: 24.0, 32: 20.0, 64: 16.0, 128: 12.0, 256: 8.0, 512: 6.0, 1024: 4.0}
DEFAULT_TICK_KIMG = 4.0

Value = TypeVar("Value", int, float)


class Phase(NamedTuple):
    """Where a run is."""

    kimg: float  # thousands of images shown
    lod: float  # halvings of the resolution; fractions fade between two resolutions
    resolution: int  # the larger one while fading
    batch_size: int  # images per update, over all processes
    device_batch_size: int  # images per forward pass
    lr: float
    tick_kimg: float


def phase_at(images_seen: int, config: ScheduleConfig, resolution: int) -> Phase:
    """The phase after ``images_seen`` images of a run whose images have ``resolution``.

    When growing, each resolution is trained for ``training_kimg`` and the next one then faded in
    over ``transition_kimg``.
    """
    kimg = images_seen / 1000.0
    lod = _lod_at(kimg, config, resolution) if config.growing else 0.0
    current = resolution >> math.floor(lod)
    lr = _at(config.lr_at, current, config.lr)
    if config.warmup_kimg > 0:
        lr *= min(kimg / config.warmup_kimg, 1.0)
    return Phase(
        kimg,
        lod,
        current,
        _at(config.batch_size_at, current, config.batch_size),
        _at(config.device_batch_size_at, current, config.device_batch_size),
        lr,
        TICK_KIMG.get(current, DEFAULT_TICK_KIMG),
    )


def _lod_at(kimg: float, config: ScheduleConfig, resolution: int) -> float:
    duration = config.training_kimg + config.transition_kimg
    index = math.floor(kimg / duration) if duration > 0 else 0
    inside = kimg - index * duration
    lod = math.log2(resolution) - math.log2(config.initial_resolution) - index
    if config.transition_kimg > 0:
        lod -= max(inside - config.training_kimg, 0.0) / config.transition_kimg
    return max(lod, 0.0)


def _at(pairs: Sequence[tuple[int, Value]], resolution: int, default: Value) -> Value:
    return dict(pairs).get(resolution, default)
