"""Photographs without classes: folders of any shape, CelebA's crops, LSUN's databases."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image

from .images import EncodedImages, is_image_name

Fit = Callable[[Image.Image, int, float], np.ndarray]

CELEBA_SIZE = (178, 218)  # pixels of img_align_celeba_png
CELEBA_CENTRE = (89, 121)
CELEBA_CROP = 128
WIDE = (4, 3)
"""Aspect of LSUN's wide crops."""


def read_photographs(
    root: str | Path,
    *,
    resolution: int,
    workers: int = 4,
    skip_other_files: bool = False,
    fit: Fit | None = None,
) -> EncodedImages:
    """All images below ``root``, in alphabetical order, in one class.

    Args:
        root: folder, with or without sub-folders.
        resolution: R; by default the centre is cut square and resized to it.
        workers: threads that decode.
        skip_other_files: pass over files that are no images.
        fit: see `EncodedImages`.

    Raises:
        FileNotFoundError: ``root`` is no folder.
        ValueError: it holds no image, or another file.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"--data.path {root} is not a folder; it must hold image files")
    entries = []
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            if is_image_name(file):
                entries.append((Path(parent) / file).relative_to(root).as_posix())
            elif not skip_other_files and not file.startswith("."):
                raise ValueError(
                    f"{Path(parent) / file} is not an image file; move it away or give "
                    "--data.skip-other-files"
                )
    if not entries:
        raise ValueError(f"--data.path {root} holds no image")
    return _one_class(
        sorted(entries),
        str(root),
        resolution=resolution,
        load=lambda entry: (root / entry).open("rb"),
        workers=workers,
        fit=fit,
    )


def read_celeba(root: str | Path, *, workers: int = 4) -> EncodedImages:
    """CelebA's aligned images, cut to the 128 x 128 pixels around the face as ProGAN does.

    Args:
        root: ``img_align_celeba`` or ``img_align_celeba_png``.
        workers: threads that decode.
    """
    return read_photographs(root, resolution=CELEBA_CROP, workers=workers, fit=_face)


def _face(image: Image.Image, resolution: int, offset: float) -> np.ndarray:
    if image.size != CELEBA_SIZE:
        raise ValueError(f"it has {image.size} pixels, CelebA's aligned images have {CELEBA_SIZE}")
    left, top = (centre - CELEBA_CROP // 2 for centre in CELEBA_CENTRE)
    return np.asarray(image.crop((left, top, left + CELEBA_CROP, top + CELEBA_CROP)))


def read_lsun(
    path: str | Path, *, resolution: int, wide: bool = False, workers: int = 4, limit: int = 0
) -> EncodedImages:
    """Images of one LSUN category, in the order of their keys.

    Args:
        path: the unpacked ``CATEGORY_lmdb`` folder.
        resolution: R; images are resized with Pillow's Lanczos filter.
        wide: instead of a square cut at the centre, take 4:3 and put it between black bars, as the
            authors do for cars; images smaller than that are passed over.
        workers: threads that decode.
        limit: take the first so many; 0 takes all.

    Raises:
        ImportError: the package lmdb is absent.
        FileNotFoundError: there is no such database.
    """
    try:
        import lmdb
    except ImportError:
        raise ImportError(
            "--data.source lsun reads LMDB files, which needs the package lmdb: "
            "pip install 'fq-gan[lsun]', or unpack the images and use --data.source images"
        ) from None
    if not (Path(path) / "data.mdb").is_file():
        raise FileNotFoundError(
            f"--data.path {path} has no data.mdb; fetch a category from "
            "https://www.yf.io/p/lsun and unpack it"
        )
    database = lmdb.open(str(path), readonly=True, lock=False, readahead=False)

    def load(entry: str) -> BinaryIO:
        with database.begin() as transaction:
            return io.BytesIO(transaction.get(bytes.fromhex(entry)))

    entries: list[str] = []
    with database.begin() as transaction:
        for key, value in transaction.cursor():
            if limit and len(entries) >= limit:
                break
            if not wide or _is_wide_enough(value, resolution):
                entries.append(bytes(key).hex())
    if not entries:
        raise ValueError(f"{path} holds no image of {resolution} pixels width")
    fit = _wide if wide else _lanczos
    return _one_class(
        entries, str(path), resolution=resolution, load=load, workers=workers, fit=fit
    )


def _is_wide_enough(content: Any, resolution: int) -> bool:
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    cut = round(width * WIDE[1] / WIDE[0])
    return width >= resolution and height >= cut


def _lanczos(image: Image.Image, resolution: int, offset: float) -> np.ndarray:
    edge = min(image.size)
    left, top = (round((length - edge) * offset) for length in image.size)
    image = image.crop((left, top, left + edge, top + edge))
    return np.asarray(image.resize((resolution, resolution), Image.Resampling.LANCZOS))


def _wide(image: Image.Image, resolution: int, offset: float) -> np.ndarray:
    width, height = image.size
    cut, shown = round(width * WIDE[1] / WIDE[0]), resolution * WIDE[1] // WIDE[0]
    top = (height - cut) // 2
    image = image.crop((0, top, width, top + cut))
    image = image.resize((resolution, shown), Image.Resampling.LANCZOS)
    canvas = np.zeros((resolution, resolution, 3), np.uint8)
    start = (resolution - shown) // 2
    canvas[start : start + shown] = np.asarray(image)
    return canvas


def _one_class(entries: Sequence[str], name: str, **options: Any) -> EncodedImages:
    return EncodedImages(
        entries, torch.zeros(len(entries), dtype=torch.int64), ["0"], name, **options
    )
