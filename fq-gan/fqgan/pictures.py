"""Pictures in and out: files of users as tensors, sheets and files of generated images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .data.images import UNREADABLE, normalize, open_image, square, to_bytes


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


def write_npz(
    draw: Callable[[int], tuple[Tensor, Tensor]], path: Path, count: int, batch_size: int
) -> Path:
    """Images of ``draw`` as ``x`` (N, 3, R, R), uint8, and their labels as ``y`` (N,).

    It is what `fqgan evaluate --samples` reads. Deviation: levels are rounded; the authors cut them
    off, half a level darker on average.
    """
    pixels, labels = [], []
    for first in range(0, count, batch_size):
        images, drawn = draw(min(batch_size, count - first))
        pixels.append(to_bytes(images.cpu()).numpy())
        labels.append(drawn.cpu().numpy())
    np.savez(path, x=np.concatenate(pixels), y=np.concatenate(labels))
    return path


def square_columns(count: int) -> int:
    """Columns of a sheet that is about square."""
    return max(1, round(count**0.5))


def midpoints(first: Tensor, last: Tensor, count: int) -> Tensor:
    """``count`` equidistant points between ``first`` and ``last`` (B, ...), ends included.

    Returns (B, count + 2, ...).
    """
    weights = torch.linspace(0, 1, count + 2, dtype=first.dtype, device=first.device)
    weights = weights.view(1, -1, *[1] * (first.dim() - 1))
    return first.unsqueeze(1) * (1 - weights) + last.unsqueeze(1) * weights


TILE = 96  # screen pixels of an image in a sheet, at least


def check_picture(path: str | Path) -> Image.Image:
    """An upright RGB picture; raises ``ValueError`` where it is none."""
    try:
        return open_image(path)
    except UNREADABLE as error:
        raise ValueError(
            f"{Path(path).name} cannot be read as an image; give a PNG, JPEG or WebP file"
        ) from error


def read_square(path: str | Path, resolution: int) -> Tensor:
    """The middle square of a picture: (1, 3, R, R) in [-1, 1]."""
    pixels = np.array(square(check_picture(path), resolution))
    return normalize(torch.from_numpy(pixels).permute(2, 0, 1)[None])


def tiled(images: Tensor, columns: int, *, tile: int = TILE) -> Image.Image:
    """A sheet of ``images`` (N, 3, R, R) with so many a row, small ones enlarged."""
    factor = max(1, round(tile / images.shape[-1]))
    bytes_ = to_bytes(images).repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    return picture_of(grid(bytes_, min(columns, len(images))))


def enlarged(image: Tensor, size: int = 384) -> Image.Image:
    """One image (3, R, R), in [-1, 1], enlarged to about ``size`` pixels in whole steps."""
    factor = max(1, size // image.shape[-1])
    bytes_ = to_bytes(image).repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
    return picture_of(bytes_)


def picture_of(pixels: Tensor) -> Image.Image:
    """(3, H, W), uint8, as a picture."""
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
