"""Pictures in and out: files of users as tensors, sheets and files of generated images."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .data.images import UNREADABLE, normalize, open_image, square, to_bytes
from .runtime.files import why


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


def save_sheet(
    images: Tensor,
    path: str | Path,
    columns: int,
    *,
    border: int = 2,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
) -> Path:
    """Write ``images`` (N, 3, H, W), in [-1, 1], as one PNG with ``columns`` images a row.

    Titles stand at the left of the rows and above the columns.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = picture_of(grid(to_bytes(images.float().cpu()), columns, border=border))
    size = images.shape[2] + border, images.shape[3] + border
    titled(sheet, size, row_titles, column_titles).save(path)
    return path


def titled(
    sheet: Image.Image, size: tuple[int, int], rows: Sequence[str], columns: Sequence[str]
) -> Image.Image:
    """A sheet of images of ``size`` (height, width) with titles of its rows and columns."""
    if not (rows or columns):
        return sheet
    font = ImageFont.load_default(max(10, min(20, size[0] // 3)))
    line = font.getbbox("Ag")[3] + 4
    left = int(max((font.getlength(title) for title in rows), default=0)) + (8 if rows else 0)
    top = int(line) if columns else 0
    canvas = Image.new("RGB", (sheet.width + left, sheet.height + top))
    canvas.paste(sheet, (left, top))
    draw = ImageDraw.Draw(canvas)
    for number, title in enumerate(rows):
        draw.text((4, top + (number + 0.5) * size[0] - line / 2), title, "white", font)
    for number, title in enumerate(columns):
        place = left + (number + 0.5) * size[1] - font.getlength(title) / 2
        draw.text((max(left, place), 1), title, "white", font)
    return canvas


def loop_through(points: Tensor, frames: int, *, keep_spread: bool = False) -> Tensor:
    """``frames`` places (frames, ...) on a closed way through ``points`` (K, ...), K at least 2.

    ``keep_spread`` goes along arcs, on which normal noise stays as large as it is; else along
    straight lines, slowly near the points.
    """
    if len(points) < 2 or frames < len(points):
        raise ValueError(f"a way of {frames} frames cannot go through {len(points)} points")
    place = torch.arange(frames, device=points.device) * (len(points) / frames)
    first = place.long()
    share = (place - first).view(-1, *[1] * (points.dim() - 1)).to(points.dtype)
    start, end = points[first], points[(first + 1) % len(points)]
    if keep_spread:
        angle = share * (torch.pi / 2)
        return angle.cos() * start + angle.sin() * end
    smooth = 0.5 - 0.5 * torch.cos(share * torch.pi)
    return start + smooth * (end - start)


VIDEOS = (".gif", ".mp4")


def check_video(path: str) -> None:
    """Raise ``ValueError`` or ``ImportError`` where no video can be written to ``path``."""
    if Path(path).suffix.lower() not in VIDEOS:
        raise ValueError(f"--video {path} must end with .gif or .mp4")
    if path.lower().endswith(".mp4") and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise ImportError(
            f"--video {path} needs the package imageio-ffmpeg: pip install 'fq-gan[video]', or "
            "write a .gif"
        )


def save_video(frames: Tensor, path: str | Path, *, per_second: int = 25) -> Path:
    """Write ``frames`` (N, 3, H, W), in [-1, 1], as a GIF (Pillow) or MP4 (imageio-ffmpeg).

    A GIF repeats for ever and shows time in hundredths of a second.
    """
    path = Path(path)
    check_video(str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Small images would be hard to see, and videos need even sides.
    factor = max(1, round(2 * TILE / frames.shape[-1])) if frames.shape[-1] < TILE else 1
    pixels = (
        to_bytes(frames.float().cpu()).repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    )
    if path.suffix.lower() == ".gif":
        first, *rest = [picture_of(frame) for frame in pixels]
        first.save(path, save_all=True, append_images=rest, duration=1000 // per_second, loop=0)
        return path
    from imageio_ffmpeg import write_frames

    size = pixels.shape[-1], pixels.shape[-2]
    writer = write_frames(str(path), size, fps=per_second, macro_block_size=2, quality=8)
    writer.send(None)
    for frame in pixels:
        writer.send(frame.permute(1, 2, 0).contiguous().numpy())
    writer.close()
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
            f"{path} cannot be read as an image ({why(error)}); give a PNG, JPEG or WebP file"
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
