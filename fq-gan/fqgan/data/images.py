"""Labelled square images: what every reader returns, and the reader of encoded image files."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..runtime.files import why

UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
)
"""What Pillow and `open_image` raise for a file that is no image, or a damaged one."""
BACKGROUND = "white"
"""What is seen through transparent pixels."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to turn an image upright, by the orientation that its EXIF data name."""
SUFFIXES = (
    ".bmp",
    ".gif",
    ".jfif",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)


class Images(Protocol):
    """N labelled RGB images of R x R pixels."""

    name: str
    resolution: int
    class_names: list[str]
    labels: Tensor  # (N,) int64

    def __len__(self) -> int: ...

    def read(self, index: Tensor, crop: Tensor | None = None) -> Tensor:
        """Pixels (B, 3, R, R), uint8 or float levels 0..255, of the images at ``index`` (B,).

        ``crop`` (B,), in [0, 1], says where the square lies on the long edge of an image that is
        not square; None takes the centre.
        """
        ...


class ArrayImages:
    """Images held in memory.

    Args:
        pixels: (N, 3, R, R), uint8, or float32 levels 0..255.
        labels: (N,), int64.
        class_names: one name for each label.
        name: what errors and files call this set.
    """

    def __init__(
        self, pixels: Tensor, labels: Tensor, class_names: Sequence[str], name: str
    ) -> None:
        known = pixels.dtype in (torch.uint8, torch.float32)
        if not known or pixels.dim() != 4 or pixels.shape[1] != 3:
            raise ValueError(f"{name}: pixels must be uint8 (N, 3, R, R), got {pixels.shape}")
        if pixels.shape[2] != pixels.shape[3] or len(labels) != len(pixels):
            raise ValueError(
                f"{name}: {tuple(pixels.shape)} pixels with {len(labels)} labels; "
                "square images and one label for each are needed"
            )
        self.pixels, self.labels = pixels, labels.long()
        self.class_names, self.name = list(class_names), name
        self.resolution = pixels.shape[2]

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, index: Tensor, crop: Tensor | None = None) -> Tensor:
        """See `Images.read`; the result is on the device of the pixels."""
        return self.pixels[index.to(self.pixels.device, non_blocking=True)]

    def to(self, device: torch.device | str) -> ArrayImages:
        """Move the pixels to ``device``, so that a batch costs one gather there."""
        self.pixels = self.pixels.to(device)
        return self


class EncodedImages:
    """Image files that are decoded when read, by a pool of threads (Pillow frees the lock).

    By default the short edge of an image is kept, the square is cut out of the long one and resized
    to ``resolution`` (PIL bilinear), as the authors of BigGAN do.

    Args:
        entries: N names, relative to the folder or archive.
        labels: (N,), int64.
        class_names: one name for each label.
        name: the folder or archive, for errors.
        resolution: R, pixels.
        load: gives an entry's content.
        workers: threads.
        fit: makes an RGB image, R, and a place on its long edge into (R, R, 3) levels 0..255.
    """

    def __init__(
        self,
        entries: Sequence[str],
        labels: Tensor,
        class_names: Sequence[str],
        name: str,
        *,
        resolution: int,
        load: Callable[[str], BinaryIO],
        workers: int = 4,
        fit: Callable[[Image.Image, int, float], np.ndarray] | None = None,
    ) -> None:
        self.entries, self.labels = list(entries), labels
        self.class_names, self.name, self.resolution = list(class_names), name, resolution
        self._load, self._workers, self._fit = load, max(1, workers), fit or square
        self._pool: ThreadPoolExecutor | None = None
        check_classes(labels, self.class_names, name)

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, index: Tensor, crop: Tensor | None = None) -> Tensor:
        """See `Images.read`; raises `UnreadableImagesError` for files that are no images."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
        offsets = [0.5] * len(index) if crop is None else crop.tolist()
        found = list(self._pool.map(self._decode, index.tolist(), offsets))
        pairs = zip(index.tolist(), found, strict=True)
        failures = [(self.entries[i], reason) for i, reason in pairs if isinstance(reason, str)]
        if failures:
            raise UnreadableImagesError(self.name, failures)
        return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()

    def _decode(self, position: int, offset: float) -> np.ndarray | str:
        """The pixels, or why there are none."""
        entry = self.entries[position]
        try:
            with self._load(entry) as file:
                return self._fit(open_image(file), self.resolution, offset)
        except UNREADABLE as error:
            return str(error)


class UnreadableImagesError(ValueError):
    """Files that are no images, or damaged ones.

    Args:
        name: the folder or archive.
        failures: entries and what is wrong with each.
    """

    def __init__(self, name: str, failures: Sequence[tuple[str, str]]) -> None:
        self.failures = list(failures)
        listed = ", ".join(f"{entry} ({reason})" for entry, reason in failures)
        many = f"{len(failures)} files cannot be read as images: {listed}; replace or move them"
        [(entry, reason), *others] = failures
        one = f"{entry} cannot be read as an image ({reason}); replace it or move it"
        super().__init__(f"{name}: {many if others else one} away")


def decode_all(images: Images, batch_size: int = 256) -> None:
    """Read every image once; raises `UnreadableImagesError` with all that cannot be read."""
    failures: list[tuple[str, str]] = []
    for index in torch.arange(len(images)).split(batch_size):
        try:
            images.read(index)
        except UnreadableImagesError as error:
            failures += error.failures
    if failures:
        raise UnreadableImagesError(images.name, failures)


def require_images(paths: Sequence[Path]) -> None:
    """Raise `UnreadableImagesError` with all of ``paths`` that cannot be read as images."""
    failures = []
    for path in paths:
        try:
            open_image(path)
        except UNREADABLE as error:
            failures.append((path.name, str(error)))
    if failures:
        folder = str(paths[0].parent)
        raise UnreadableImagesError("the working folder" if folder == "." else folder, failures)


def open_image(source: str | Path | bytes | BinaryIO) -> Image.Image:
    """The image of a file, or of its content, as it is meant to be seen, in 8-bit RGB.

    It is turned upright where its EXIF data say so, lies on `BACKGROUND` where it is transparent,
    and is the first frame of an animation. Every reader opens images here.

    Raises:
        `UNREADABLE`: it is no image, or a damaged one.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            turn = UPRIGHT.get(_orientation(image))
            rgb = to_rgb(image)
    except UnidentifiedImageError:  # Pillow's words name objects of Python
        raise UnidentifiedImageError("its content is of no known image format") from None
    except (struct.error, EOFError, OverflowError, LookupError, TypeError, zlib.error) as error:
        raise ValueError(f"it is damaged: {why(error)}") from error
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """The orientation that EXIF data name; 1, upright, where they are absent or damaged."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except (*UNREADABLE, struct.error, TypeError, KeyError, IndexError):
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """``image`` of any mode as 8-bit RGB; what is transparent shows `BACKGROUND`.

    Sixteen bits of grey are scaled to eight: Pillow's own conversion would cut them off at 255.

    Raises:
        ValueError: the pixels are floating-point numbers or larger than 16 bits.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        levels = np.asarray(image, dtype=np.float64)
        if image.mode == "F" or levels.min() < 0 or levels.max() > 65535:
            raise ValueError(
                f"its pixels (mode {image.mode}) are not 8-bit or 16-bit levels; save it as PNG"
            )
        key = image.info.get("transparency")
        image = Image.fromarray((levels / 257).round().astype(np.uint8))
        if isinstance(key, int):  # the level that is transparent
            image.putalpha(Image.fromarray(np.where(levels == key, 0, 255).astype(np.uint8)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image).convert(
            "RGB"
        )
    return image.convert("RGB")


def square(image: Image.Image, resolution: int, offset: float = 0.5) -> np.ndarray:
    """The square at ``offset`` of the long edge, resized: (R, R, 3), uint8."""
    edge = min(image.size)
    left, top = (round((length - edge) * offset) for length in image.size)
    image = image.crop((left, top, left + edge, top + edge))
    if edge != resolution:
        image = image.resize((resolution, resolution), Image.Resampling.BILINEAR)
    return np.asarray(image)


def check_classes(labels: Tensor, class_names: Sequence[str], name: str) -> None:
    """Raise ``ValueError`` unless every label has a name and every class has an image."""
    if len(labels) == 0:
        raise ValueError(f"{name} holds no image")
    if int(labels.min()) < 0 or int(labels.max()) >= len(class_names):
        raise ValueError(
            f"{name}: labels run from {int(labels.min())} to {int(labels.max())}, "
            f"but there are {len(class_names)} classes"
        )
    counts = torch.bincount(labels.cpu(), minlength=len(class_names))
    if int(counts.min()) == 0:
        empty = class_names[int(counts.argmin())]
        raise ValueError(f"{name}: class {empty!r} holds no image; add some or remove the class")


def in_memory(images: Images, name: str | None = None, batch_size: int = 1000) -> ArrayImages:
    """Read all of ``images`` into memory; what is not square is cut at its centre."""
    if isinstance(images, ArrayImages):
        return images
    order = torch.arange(len(images))
    shape = (len(images), 3, images.resolution, images.resolution)
    try:
        pixels = torch.empty(shape, dtype=images.read(order[:1]).dtype)
        for part in order.split(batch_size):
            pixels[part] = images.read(part)
    except UnreadableImagesError:
        decode_all(images)  # names all of them
        raise
    return ArrayImages(pixels, images.labels, images.class_names, name or images.name)


class Subset:
    """Some of the images of another set; a class may be absent."""

    def __init__(self, images: Images, index: Tensor) -> None:
        self._images, self._index = images, index
        self.name, self.resolution = f"{images.name} ({len(index)} images)", images.resolution
        self.class_names, self.labels = images.class_names, images.labels[index]

    def __len__(self) -> int:
        return len(self._index)

    def read(self, index: Tensor, crop: Tensor | None = None) -> Tensor:
        """See `Images.read`."""
        return self._images.read(self._index[index], crop)


def fingerprint(images: Images, batch_size: int = 256) -> str:
    """Digest of the labels, the size and the pixels of every image.

    Unlike dates and paths it survives copying; caches are keyed by it. All of the images are read:
    of a choice, the others could change unnoticed.
    """
    content = hashlib.sha256(f"{len(images)} {images.resolution}".encode())
    content.update(images.labels.cpu().numpy().astype("<i8").tobytes())
    for index in torch.arange(len(images)).split(batch_size):
        content.update(images.read(index).cpu().numpy().tobytes())
    return content.hexdigest()


def normalize(pixels: Tensor) -> Tensor:
    """uint8 in 0..255 to float32 in [-1, 1]."""
    return (pixels.float() / 255 - 0.5) / 0.5


def to_bytes(images: Tensor, *, truncate: bool = False) -> Tensor:
    """Float images in [-1, 1] to uint8, rounded to the nearest level.

    ``truncate`` cuts the fraction off instead, as the authors do: on images that were bytes
    before, every level from 1 to 63 then comes out one too low.
    """
    levels = (images.float() + 1) / 2 * 255
    return (levels if truncate else levels.round()).clamp(0, 255).to(torch.uint8)


def is_image_name(name: str | Path) -> bool:
    """Whether the suffix is that of an image file."""
    return Path(name).suffix.lower() in SUFFIXES
