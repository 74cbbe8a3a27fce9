"""Sheets of images as PNG, without torchvision."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from .data.images import to_bytes


def grid(images: Tensor, columns: int, *, border: int = 2) -> Tensor:
    """Lay ``images`` (N, 3, H, W), uint8, out row by row.

    Returns (3, rows * (H + border) + border, ...) uint8; missing places and borders are black.
    """
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = images.new_zeros(
        channels, rows * (height + border) + border, columns * (width + border) + border
    )
    for number, image in enumerate(images):
        top = border + number // columns * (height + border)
        left = border + number % columns * (width + border)
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def save_sheet(images: Tensor, path: str | Path, columns: int, *, border: int = 2) -> Path:
    """Write ``images`` (N, 3, H, W), in [-1, 1], as one PNG with ``columns`` images a row."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = grid(to_bytes(images.float().cpu()), columns, border=border)
    save_image(sheet, path)
    return path


def save_image(image: Tensor, path: str | Path) -> None:
    """Write one image (3, H, W), uint8, in the format its name ends with."""
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(path)


def midpoints(first: Tensor, last: Tensor, count: int) -> Tensor:
    """``count`` equidistant points between ``first`` and ``last`` (B, ...), ends included.

    Returns (B, count + 2, ...).
    """
    weights = torch.linspace(0, 1, count + 2, dtype=first.dtype, device=first.device)
    weights = weights.view(1, -1, *[1] * (first.dim() - 1))
    return first.unsqueeze(1) * (1 - weights) + last.unsqueeze(1) * weights
