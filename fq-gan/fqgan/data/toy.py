"""Toy images made by code: ten shapes whose colours, sizes, places and renderings vary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from .images import ArrayImages

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
Style = Literal["filled", "inked"]


def _polygon(corners: int, turn: float, apothem: float) -> Distance:
    """Signed distance to a regular polygon."""

    def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        angles = turn + 2 * np.pi * np.arange(corners) / corners
        sides = [x * np.float32(np.cos(a)) + y * np.float32(np.sin(a)) for a in angles]
        return np.maximum.reduce(sides) - np.float32(apothem)

    return distance


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(x, y) - 0.7) - 0.2


def _plus(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    bar = np.maximum(np.abs(x) - 0.95, np.abs(y) - 0.27)
    return np.minimum(bar, np.maximum(np.abs(y) - 0.95, np.abs(x) - 0.27))


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    half = np.float32(np.sqrt(0.5))
    return _plus((x + y) * half, (y - x) * half)


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.hypot(x, y) - 0.9, 0.75 - np.hypot(x - 0.45, y))


def _bars(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    middle = np.abs(np.abs(y) - 0.6) - 0.18
    return np.maximum(np.minimum(middle, np.abs(y) - 0.18), np.abs(x) - 0.9)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Between the five tips the radius falls linearly with the angle from 1 to 0.42.
    angle = np.arctan2(x, -y) / (2 * np.pi) * 5
    return np.hypot(x, y) - (1 - 0.58 * 2 * np.abs(angle - np.round(angle)))


SHAPES: dict[str, Distance] = {
    "circle": lambda x, y: np.hypot(x, y) - 0.85,
    "square": _polygon(4, 0.0, 0.7),
    "triangle": _polygon(3, np.pi / 2, 0.55),
    "diamond": _polygon(4, np.pi / 4, 0.7),
    "ring": _ring,
    "plus": _plus,
    "cross": _cross,
    "crescent": _crescent,
    "bars": _bars,
    "star": _star,
}


def toy_images(
    count: int, *, seed: int = 0, resolution: int = 32, variation: float = 1.0, part: int = 2000
) -> ArrayImages:
    """``count`` images of `SHAPES`, classes in turn: image ``i`` has label ``i % 10``.

    Every image has a dull background gradient and one bright shape of 50 to 75 % of the width.
    The first images of a larger set are not those of a smaller one. A ``variation`` below 1 keeps
    shapes nearer to the middle and to 62.5 % of the width; colours and backgrounds vary as before.
    """
    if count < len(SHAPES) or resolution < 8:
        raise ValueError(
            f"toy images: {count} of {resolution} pixels are asked for, at least {len(SHAPES)} "
            "(one for each shape) of 8 pixels are needed"
        )
    random = np.random.Generator(np.random.PCG64(seed))
    labels = np.arange(count) % len(SHAPES)
    pixels = np.empty((count, 3, resolution, resolution), np.uint8)
    for start in range(0, count, part):
        stop = min(start + part, count)
        pixels[start:stop] = _draw(labels[start:stop], resolution, random, variation=variation)
    return ArrayImages(
        torch.from_numpy(pixels), torch.from_numpy(labels), list(SHAPES), f"toy images, seed {seed}"
    )


def toy_domain(
    count: int, style: Style, *, seed: int = 0, resolution: int = 64, part: int = 500
) -> ArrayImages:
    """``count`` images of the same shapes in one of two renderings.

    ``filled`` is that of `toy_images`; ``inked`` shows the shape pale, with a dark outline, on
    paper. Images of equal seed, count and resolution show the same shapes in both.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    labels = np.arange(count) % len(SHAPES)
    parts = [
        _draw(labels[start : start + part], resolution, random, style)
        for start in range(0, count, part)
    ]
    pixels = torch.from_numpy(np.concatenate(parts))
    name = f"{style} toy shapes, seed {seed}"
    return ArrayImages(pixels, torch.zeros(count, dtype=torch.int64), [style], name)


def _draw(
    labels: np.ndarray,
    resolution: int,
    random: np.random.Generator,
    style: Style = "filled",
    variation: float = 1.0,
) -> np.ndarray:
    def draw(low: float, high: float, *shape: int) -> np.ndarray:
        return random.uniform(low, high, (len(labels), *shape)).astype(np.float32)

    axis = ((np.arange(resolution, dtype=np.float32) + 0.5) / resolution * 2 - 1).reshape(1, -1)
    radius = draw(0.625 - 0.125 * variation, 0.625 + 0.125 * variation, 1, 1)
    room = 1 - radius
    x = (axis[:, None, :] - draw(-variation, variation, 1, 1) * room) / radius  # (B, 1, R)
    y = (axis[:, :, None] - draw(-variation, variation, 1, 1) * room) / radius  # (B, R, 1)
    x, y = np.broadcast_arrays(x, y)
    distance = np.empty(x.shape, np.float32)
    for label, shape in enumerate(SHAPES.values()):
        chosen = labels == label
        distance[chosen] = shape(x[chosen], y[chosen])
    cover = np.clip(0.5 - distance * radius * (resolution / 2), 0, 1)[:, None]  # one-pixel edges
    slope = draw(-0.12, 0.12, 2, 1, 1)
    ground = draw(0.1, 0.4, 3, 1, 1)
    ground = (
        ground + (slope[:, :1] * axis[:, None, :] + slope[:, 1:] * axis[:, :, None])[:, None, 0]
    )
    colour = _bright(draw(0, 1))
    if style == "inked":
        ground, colour = 0.9 + 0.25 * (ground - 0.25), 0.65 + 0.35 * colour
        stroke = 0.02 * resolution + 0.5  # pixels to either side of the outline
        line = np.clip(stroke - np.abs(distance) * radius * (resolution / 2), 0, 1)[:, None]
        image = ground + (colour - ground) * cover
        image = image + (np.float32(0.1) - image) * line
        return np.clip(image * 255, 0, 255).astype(np.uint8)
    image = ground + (colour - ground) * cover
    return np.clip(image * 255, 0, 255).astype(np.uint8)


def _bright(hue: np.ndarray) -> np.ndarray:
    """Saturated colours (B, 3, 1, 1) of the ``hue`` (B,) in [0, 1)."""
    offsets = np.array([0.0, 2 / 3, 1 / 3], np.float32)
    wave = np.abs(((hue[:, None] + offsets) % 1) * 6 - 3) - 1
    return (0.25 + 0.75 * np.clip(wave, 0, 1))[:, :, None, None]
