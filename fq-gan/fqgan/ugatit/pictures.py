"""Pictures of translations: heat maps in colour and sheets in the authors' order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..sheets import save_sheet
from .generator import Translated

Translate = Callable[[Tensor], Translated]
COLUMNS = 7


def heat_colours(heatmap: Tensor, height: int, width: int) -> Tensor:
    """Heat maps (B, h, w) from blue (least) to red (most): (B, 3, height, width) in [-1, 1]."""
    lowest, highest = (
        bound(heatmap, dim=(1, 2), keepdim=True) for bound in (torch.amin, torch.amax)
    )
    heat = (heatmap - lowest) / (highest - lowest).clamp(min=1e-8)
    heat = F.interpolate(heat[:, None], (height, width), mode="bilinear", align_corners=False)
    centres = torch.tensor([0.75, 0.5, 0.25], device=heat.device).view(1, 3, 1, 1)
    return (1.5 - (4 * (heat - centres)).abs()).clamp(0, 1) * 2 - 1


@torch.no_grad()
def comparison(images: Tensor, there: Translate, back: Translate) -> Tensor:
    """What ``there`` and ``back`` make of ``images`` (B, 3, H, W), in the authors' order.

    Returns:
        (7 B, 3, H, W), seven of every image: itself; heat map and result of ``back``, which should
        leave it alone; of ``there``, the translation; and of the translation sent back.
    """
    height, width = images.shape[2:]
    same, translated = back(images), there(images)
    returned = back(translated.images)
    columns = [images]
    for step in (same, translated, returned):
        columns += [heat_colours(step.heatmap.float(), height, width), step.images]
    return torch.stack(columns, dim=1).flatten(0, 1)


def save_comparison(images: Tensor, there: Translate, back: Translate, path: str | Path) -> Path:
    """Write the `comparison` of ``images`` as one PNG, a row for each image."""
    rows = [comparison(image[None], there, back) for image in images]
    return save_sheet(torch.cat(rows), path, COLUMNS)
