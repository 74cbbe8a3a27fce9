"""Perceptual path length: how evenly images change along a path (Karras et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..runtime import distributed

COMPARED_SIZE = 256
"""Larger images are averaged down to about this size."""


@dataclass(frozen=True)
class PathLengthVariant:
    """Along which paths, and on which part of the image."""

    space: Literal["z", "w"]
    """Latents are interpolated on the sphere, styles linearly."""
    sampling: Literal["full", "end"]
    """Anywhere on the path, or at its beginning."""
    crop: bool = True
    """Compare the face in the middle of an aligned portrait."""
    epsilon: float = 1e-4
    """Step along the path, whose whole length is 1."""


VARIANTS = {
    "ppl_zfull": PathLengthVariant("z", "full"),
    "ppl_wfull": PathLengthVariant("w", "full"),
    "ppl_zend": PathLengthVariant("z", "end"),
    "ppl_wend": PathLengthVariant("w", "end"),
    "ppl2_wend": PathLengthVariant("w", "end", crop=False),
}


class RobustMean(NamedTuple):
    low: float  # first percentile
    high: float  # 99th percentile
    mean: float  # of what lies between, ends included


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The point at ``t`` on the straight line from ``a`` to ``b``; ``t`` broadcasts."""
    return a + (b - a) * t


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The unit vector (B, Z) at ``t`` (B, 1) on the arc from ``a`` to ``b`` (B, Z)."""
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    cosine = (a * b).sum(dim=-1, keepdim=True)
    angle = t * torch.acos(cosine.clamp(-1, 1))
    across = F.normalize(b - cosine * a, dim=-1)
    return F.normalize(a * torch.cos(angle) + across * torch.sin(angle), dim=-1)


def robust_mean(distances: Tensor) -> RobustMean:
    """Mean of ``distances`` (N,) without the lowest and the highest hundredth."""
    values = distances.double().cpu().numpy()
    low = np.percentile(values, 1, method="lower")
    high = np.percentile(values, 99, method="higher")
    kept = values[(values >= low) & (values <= high)]
    return RobustMean(float(low), float(high), float(kept.mean()))


def path_length(
    variant: PathLengthVariant,
    *,
    draw_latents: Callable[[int], Tensor],
    map_latents: Callable[[Tensor], Tensor],
    synthesize: Callable[[Tensor], Tensor],
    distance: Callable[[Tensor, Tensor], Tensor],
    num_pairs: int = 50_000,
    batch_size: int = 8,
) -> RobustMean:
    """Mean perceptual distance per squared step.

    Args:
        variant: see `VARIANTS`.
        draw_latents: number n to latents (n, Z), different ones on every process.
        map_latents: latents to styles (n, L, W); called for both ends of the same n paths in
            turn, which must have the same labels, if any.
        synthesize: styles to images (n, C, R, R) in [-1, 1], with the same noise every time.
        distance: two batches of images (n, 3, H, W) to distances (n,), such as `LPIPS`.
        num_pairs: pairs of images, over all processes.
        batch_size: pairs at a time.

    Raises:
        ValueError: there are too few pairs for percentiles.
    """
    if num_pairs < 2:
        raise ValueError(f"a path length needs at least 2 pairs, got {num_pairs}")
    share, found = -(-num_pairs // distributed.world_size()), []
    with torch.no_grad():
        for start in range(0, share, batch_size):
            count = min(batch_size, share - start)
            pair = _pair(variant, count, draw_latents, map_latents)
            first, second = (comparable_part(synthesize(w), variant.crop) for w in pair)
            found.append(distance(first, second).double().cpu() / variant.epsilon**2)
    parts = distributed.gather_objects(torch.cat(found))
    return robust_mean(torch.cat(parts)[:num_pairs])


def _pair(
    variant: PathLengthVariant,
    count: int,
    draw_latents: Callable[[int], Tensor],
    map_latents: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Styles at two neighbouring points of each of ``count`` paths."""
    start, end = draw_latents(count), draw_latents(count)
    t = torch.zeros(count, 1, device=start.device)
    if variant.sampling == "full":
        t = torch.rand(count, 1, device=start.device)
    following = t + variant.epsilon
    if variant.space == "z":
        return map_latents(slerp(start, end, t)), map_latents(slerp(start, end, following))
    first, last = map_latents(start), map_latents(end)
    return lerp(first, last, t[:, None]), lerp(first, last, following[:, None])


def comparable_part(images: Tensor, crop: bool) -> Tensor:
    """What of ``images`` (B, C, R, R) is compared: cut out, averaged down, with three channels."""
    if crop:  # rows 3/8 to 7/8, columns 2/8 to 6/8: the face
        eighth = images.shape[2] // 8
        images = images[:, :, eighth * 3 : eighth * 7, eighth * 2 : eighth * 6]
    factor = images.shape[2] // COMPARED_SIZE
    if factor > 1:
        images = F.avg_pool2d(images, factor)
    return images.expand(-1, 3, -1, -1)
