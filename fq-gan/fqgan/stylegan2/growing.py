"""Progressive growing: images between two resolutions (Karras et al., ICLR 2018).

``lod`` ("level of detail") says how far networks have grown: at 0 they work at their full
resolution R, at 1 at half of it, and in between they fade from one to the other. Images always have
R x R pixels; those of a lower resolution are enlarged.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def grown_to(levels: int, lod: float) -> tuple[int, float]:
    """Highest level (log2 of the resolution) in use, and the share of the one below it.

    Raises:
        ValueError: ``lod`` is not between 0 (full resolution) and that of 4 x 4 pixels.
    """
    if not 0.0 <= lod <= levels - 2:
        raise ValueError(f"lod must be in [0, {levels - 2}], got {lod}")
    whole = math.floor(lod)
    return levels - whole, lod - whole


def enlarge(images: Tensor, factor: int) -> Tensor:
    """Repeat every pixel ``factor`` times along both axes."""
    return F.interpolate(images, scale_factor=factor) if factor > 1 else images


def shrink(images: Tensor, factor: int) -> Tensor:
    """Means of ``factor`` x ``factor`` pixels."""
    return F.avg_pool2d(images, factor) if factor > 1 else images


def grow_image(
    levels: int,
    lod: float,
    features: Callable[[int, Tensor | None], Tensor],
    to_rgb: Callable[[int, Tensor], Tensor],
) -> Tensor:
    """The image at ``lod``: features from 4 x 4 upwards, RGB of the last one or two.

    Args:
        levels: log2 of the full resolution R.
        lod: see above.
        features: level and the features of the one below, to features.
        to_rgb: level and its features, to an image.

    Returns:
        (B, C, R, R).
    """
    top, share = grown_to(levels, lod)
    below: Tensor | None = None
    x: Tensor | None = None
    for level in range(2, top + 1):
        below, x = x, features(level, x)
    assert x is not None
    image = to_rgb(top, x)
    if share:
        assert below is not None
        image = torch.lerp(image, enlarge(to_rgb(top - 1, below), 2), share)
    return enlarge(image, 2 ** (levels - top))


def shrink_features(
    images: Tensor,
    lod: float,
    from_rgb: Callable[[int, Tensor], Tensor],
    block: Callable[[int, Tensor], Tensor],
) -> Tensor:
    """Features at 4 x 4 of ``images`` (B, C, R, R) at ``lod``, whose details above it are ignored.

    Args:
        images: of the full resolution.
        lod: see above.
        from_rgb: level and an image of its size, to features.
        block: level and its features, to those of the level below.
    """
    levels = images.shape[-1].bit_length() - 1
    top, share = grown_to(levels, lod)
    images = shrink(images, 2 ** (levels - top))
    x = from_rgb(top, images)
    for level in range(top, 2, -1):
        x = block(level, x)
        if share and level == top:
            x = torch.lerp(x, from_rgb(level - 1, shrink(images, 2)), share)
    return x


def fade_reals(images: Tensor, lod: float) -> Tensor:
    """Real ``images`` (B, C, R, R) as networks at ``lod`` should see them."""
    levels = images.shape[-1].bit_length() - 1
    top, share = grown_to(levels, lod)
    faded = shrink(images, 2 ** (levels - top))
    if share:
        faded = torch.lerp(faded, enlarge(shrink(faded, 2), 2), share)
    return enlarge(faded, 2 ** (levels - top))
