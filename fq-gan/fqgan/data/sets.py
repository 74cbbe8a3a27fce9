"""Any set of images that can be scored, in whatever form it is, in its own sizes."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from ..metrics.statistics import array_names
from ..runtime import distributed
from ..runtime.files import why
from ..runtime.options import shown
from .batches import fixed_choice, one_pass
from .datasets import SIZES, DataConfig, Source, build_images
from .folders import visible
from .hdf5 import read_hdf5
from .images import (
    UNREADABLE,
    ArrayImages,
    Images,
    UnreadableImagesError,
    is_image_name,
    normalize,
    open_image,
    square,
)
from .shards import SHARD_ENDINGS, Files, archived_files
from .tfrecords import read_tfrecords


class ImageSet(NamedTuple):
    """Images to be scored."""

    name: str
    kind: str  # folder, zip, tar, hdf5, npz, tfrecords, or a `Source`
    number: int  # images that will come, all ranks together
    batches: Callable[[int], Iterator[Tensor]]  # B -> this rank's share, (<= B, 3, H, W) in [-1, 1]


def open_set(
    path: str, *, resolution: int = 0, limit: int = 0, workers: int = 4,
    device: torch.device | str = "cpu",
) -> ImageSet:  # fmt: skip
    """The images of a folder, a zip or tar archive, an HDF5 file, an ``.npz``, or TFRecords.

    Args:
        path: of the file or folder; or SOURCE:PATH with a source of `DataConfig`, such as
            cifar10:data/cifar. Folders and archives are read alike with and without their source.
        resolution: cut images square and resize them to so many pixels, or choose a level of
            TFRecords; 0 leaves image files as they are and takes the largest level.
        limit: take a fixed random choice of so many; 0 takes all.
        workers: threads that decode.
        device: where images go.

    Raises:
        FileNotFoundError: there is nothing at ``path``.
        ValueError: it is none of these, or damaged.
    """
    source, colon, rest = path.partition(":")
    if colon and source in get_args(Source):
        if bool(rest) == (source == "toy"):
            raise ValueError(
                f"{path}: toy takes no path; give toy: alone"
                if rest
                else f"{path} names no path; give that of its folder or file behind the colon"
            )
        form: str = source
    else:
        form, rest = _form_of(path), path
    match form:
        case "folder" | "images":
            files = folder_files(Path(rest))
            return _of_files(files, form, resolution, limit, workers, device)
        case "zip" | "tar" | "txt" | "shards":
            return _of_files(archived_files(rest), form, resolution, limit, workers, device)
        case "hdf5":
            return _of_images(read_hdf5(rest), path, form, limit, device)
        case "tfrecords":
            return _of_images(read_tfrecords(rest, resolution), path, form, limit, device)
        case "npz":
            return _of_images(read_samples(rest), path, form, limit, device)
    size = SIZES.get(source, resolution or 32)
    config = DataConfig(source, rest, resolution=size, skip_other_files=True)  # type: ignore[arg-type]
    return _of_images(build_images(config), path, source, limit, device)


def _form_of(path: str) -> str:
    """What a file or folder is, by its name and by what lies in it."""
    place = Path(path)
    if place.is_dir():
        if any(place.glob("*.tfrecords")):
            return "tfrecords"
        shards = any(one.suffix.lower() in SHARD_ENDINGS for one in place.iterdir())
        return "shards" if shards else "folder"
    if not place.is_file():
        raise FileNotFoundError(
            f"{shown(path)} does not exist; give a folder, a zip or tar archive, an HDF5 file, an "
            ".npz, TFRecords, a run, or SOURCE:PATH such as cifar10:data/cifar"
        )
    form = {".h5": "hdf5"}.get(place.suffix.lower(), place.suffix.lower()[1:])
    if form not in ("zip", "tar", "txt", "hdf5", "tfrecords", "npz"):
        raise ValueError(
            f"{path} is no set of images that is known: .zip, .tar, .hdf5, .npz, .tfrecords or a "
            "folder"
        )
    return form


def folder_files(root: Path) -> Files:
    """All images below ``root``, in alphabetical order; other files are passed over."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; it must hold image files")
    entries = []
    for parent, folders, names in os.walk(root):
        folders[:] = filter(visible, folders)
        found = (Path(parent) / name for name in names if visible(name) and is_image_name(name))
        entries += [file.relative_to(root).as_posix() for file in found]
    if not entries:
        raise ValueError(f"{root} holds no image")
    return Files(str(root), sorted(entries), lambda entry: (root / entry).open("rb"))


PIXELS = ("x", "arr_0", "samples")
"""Names of pixels in an ``.npz``: ours, that of a file without names, others'."""


def read_samples(path: str | Path) -> ArrayImages:
    """Pixels of an ``.npz``: ``x`` (N, 3, R, R) of `fqgan sample --npz`, or (N, R, R, 3).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no pixels.
    """
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "does not exist"
        raise FileNotFoundError(f"{shown(path)} {what}; give a file that fqgan sample --npz wrote")
    known = [name for name in PIXELS if name in array_names(path)]
    if not known:
        raise ValueError(
            f"{path} is no .npz file with samples under x, arr_0 or samples; give one that fqgan "
            "sample --npz wrote"
        )
    try:
        with np.load(path, allow_pickle=False) as content:
            pixels = content[known[0]]
            labels = content["y"] if "y" in content.files else np.zeros(len(pixels), np.int64)
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no samples under {known[0]!r} ({why(error)})") from error
    if pixels.ndim == 4 and pixels.shape[3] == 3 and pixels.shape[1] != 3:
        pixels = pixels.transpose(0, 3, 1, 2)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3 or not len(pixels):
        raise ValueError(
            f"{path}: '{known[0]}' is {pixels.dtype} {pixels.shape}, uint8 (N, 3, R, R) is needed"
        )
    if labels.dtype.kind not in "iu" or labels.shape != pixels.shape[:1] or labels.min() < 0:
        raise ValueError(
            f"{path}: 'y' is {labels.dtype} {labels.shape}, a label from 0 on for each of the "
            f"{len(pixels)} images is needed"
        )
    names = [str(label) for label in range(int(labels.max()) + 1)]
    tensors = torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(labels).long()
    return ArrayImages(*tensors, names, str(path))


def _of_images(
    images: Images, name: str, kind: str, limit: int, device: torch.device | str
) -> ImageSet:
    def batches(size: int) -> Iterator[Tensor]:
        return (one.images for one in one_pass(images, size, device=device, limit=limit))

    return ImageSet(name, kind, min(limit, len(images)) or len(images), batches)


def _of_files(
    files: Files, kind: str, resolution: int, limit: int, workers: int, device: torch.device | str
) -> ImageSet:
    order = fixed_choice(len(files.entries), limit)

    def decode(position: int) -> np.ndarray | str:
        try:
            with files.load(files.entries[position]) as file:
                image = open_image(file)
                return square(image, resolution) if resolution else np.asarray(image)
        except UNREADABLE as error:
            return str(error)

    def batches(size: int) -> Iterator[Tensor]:
        """Neighbours of equal size go together."""
        mine = order[distributed.rank() :: distributed.world_size()]
        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            for index in mine.split(size):
                found = list(pool.map(decode, index.tolist()))
                pairs = zip(index.tolist(), found, strict=True)
                bad = [(files.entries[i], why) for i, why in pairs if isinstance(why, str)]
                if bad:
                    raise UnreadableImagesError(files.name, bad)
                for _, alike in groupby(found, key=np.shape):
                    pixels = torch.from_numpy(np.stack(list(alike)))
                    yield normalize(pixels.permute(0, 3, 1, 2).to(device))

    return ImageSet(files.name, kind, len(order), batches)
