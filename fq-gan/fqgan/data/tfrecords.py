"""The multi-resolution TFRecords of StyleGAN: one file per resolution, labels beside them.

A folder ``NAME/`` holds ``NAME-r02.tfrecords`` (4 x 4 pixels), ``-r03`` (8 x 8), ... up to the full
resolution, and ``NAME-rxx.labels``, a float32 array (N, L) in numpy's format.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from .images import Images
from .records import RecordFile, decode_image, encode_image, write_record

_LEVEL = re.compile(r"^(?P<name>.+)-r(?P<level>\d\d)\.tfrecords$")
SHUFFLE_SEED = 123
"""The authors' tool shuffles every data set with this seed."""


def level_files(path: str | Path) -> dict[int, Path]:
    """The record files of a folder by their resolution; for a file, those beside it too.

    Raises:
        FileNotFoundError: there is nothing of the kind.
        ValueError: the folder holds more than one data set.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    found = [(match, file) for file in _files(folder) if (match := _LEVEL.match(file.name))]
    if path.is_file() and (own := _LEVEL.match(path.name)):
        found = [(match, file) for match, file in found if match["name"] == own["name"]]
    if not found:
        raise FileNotFoundError(
            f"--data.path {path} has no files NAME-rNN.tfrecords; make them with: "
            f"fqgan prepare tfrecords --out {path}"
        )
    names = sorted({match["name"] for match, _ in found})
    if len(names) > 1:
        raise ValueError(
            f"--data.path {path} holds several data sets ({', '.join(names[:4])}); name one of "
            "their files"
        )
    return {1 << int(match["level"]): file for match, file in found}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def read_tfrecords(path: str | Path, resolution: int = 0, *, verify: bool = True) -> TfrecordImages:
    """Open one resolution of a data set.

    Args:
        path: its folder, or one of its files.
        resolution: pixels; 0 takes the file itself, or the largest one of a folder.
        verify: compare the checksum of every record when it is read for the first time.

    Raises:
        FileNotFoundError: there is nothing of the kind.
        ValueError: that resolution is absent, a file is damaged, or it holds something else.
    """
    if Path(path).is_file() and not _LEVEL.match(Path(path).name):
        return TfrecordImages(Path(path), verify=verify)
    files = level_files(path)
    if not resolution and Path(path).is_file():
        return TfrecordImages(Path(path), verify=verify)
    resolution = resolution or max(files)
    if resolution not in files:
        known = ", ".join(map(str, sorted(files)))
        raise ValueError(f"{path} has no {resolution} x {resolution} images, only {known}")
    return TfrecordImages(files[resolution], verify=verify)


class TfrecordImages:
    """Images of one record file, read by index; see `data.images.Images`.

    Grey images come back with three equal channels. Labels that are one-hot become classes; any
    labels are kept in ``label_vectors`` (N, L), None where there is no file of labels.
    """

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        self.name = str(path)
        self.records = RecordFile(path, verify=verify)
        if len(self.records) == 0:
            raise ValueError(f"{path} holds no image")
        shape = self._decode(0).shape
        if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
            raise ValueError(f"{path}: images are {shape}, (1 or 3, R, R) is needed")
        self.channels, self.resolution = shape[0], shape[1]
        self.label_vectors = _read_labels(path, len(self.records))
        self.labels, self.class_names = classes_of(self.label_vectors, len(self.records))

    def __len__(self) -> int:
        return len(self.records)

    def read(self, index: Tensor, crop: Tensor | None = None) -> Tensor:
        """See `Images.read`; raises ``ValueError`` naming a record that is damaged."""
        pixels = torch.from_numpy(np.stack([self._decode(i) for i in index.tolist()]))
        return pixels.expand(-1, 3, -1, -1).contiguous()

    def _decode(self, number: int) -> np.ndarray:
        payload = self.records[number]
        try:
            return decode_image(payload)
        except ValueError as error:
            raise ValueError(f"{self.name}: record {number} is {error}") from None


def labels_file(path: Path) -> Path:
    """Where the labels of a record file lie."""
    match = _LEVEL.match(path.name)
    return path.with_name(f"{match['name'] if match else path.stem}-rxx.labels")


def _read_labels(path: Path, count: int) -> Tensor | None:
    file = labels_file(path)
    if not file.is_file():
        return None
    try:
        with file.open("rb") as content:
            labels = np.lib.format.read_array(content, allow_pickle=False)
        labels = np.asarray(labels, np.float32)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{file} is no array of labels ({error}); write it again") from None
    # Labels may cover a longer set of which the records hold the first part, as in the authors'.
    if labels.ndim != 2 or len(labels) < count:
        raise ValueError(
            f"{file} has labels {labels.shape} for {count} images of {path.name}; one row for each "
            "image is needed"
        )
    return torch.from_numpy(labels[:count].copy())


def classes_of(vectors: Tensor | None, count: int) -> tuple[Tensor, list[str]]:
    """Class of each image and names of all; one class where labels are absent or not one-hot."""
    if vectors is not None and vectors.shape[1] > 0:
        one_hot = ((vectors == 0) | (vectors == 1)).all() and (vectors.sum(dim=1) == 1).all()
        if one_hot:
            return vectors.argmax(dim=1), [str(label) for label in range(vectors.shape[1])]
    return torch.zeros(count, dtype=torch.int64), ["0"]


class TfrecordWriter:
    """Writes all resolutions of a data set; the folder gets its name when it is whole.

    Use it as a context manager. Every lower resolution is the mean of 2 x 2 pixels of the one
    above, taken before rounding.

    Args:
        folder: the new folder; its name is that of the data set.
        resolution: R, a power of two, at least 4.
        channels: 1 or 3.

    Raises:
        ValueError: the folder exists and is not empty, or the sizes are others.
    """

    def __init__(self, folder: str | Path, *, resolution: int, channels: int = 3) -> None:
        self.folder = Path(folder)
        if resolution < 4 or resolution & (resolution - 1):
            raise ValueError(
                f"{folder}: TFRecords hold images of 4, 8, 16, ... pixels, not {resolution}"
            )
        if self.folder.exists() and any(self.folder.iterdir()):
            raise ValueError(f"--out {folder} exists and is not empty; delete it or choose a name")
        self.resolution, self.channels, self.count = resolution, channels, 0
        self._partial = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.tmp")
        self._stack = ExitStack()
        self._files: list[BinaryIO] = []  # the full resolution first

    def __enter__(self) -> TfrecordWriter:
        self._partial.mkdir(parents=True, exist_ok=True)
        for level in range(self.resolution.bit_length() - 1, 1, -1):
            path = self._partial / f"{self.folder.name}-r{level:02d}.tfrecords"
            self._files.append(self._stack.enter_context(path.open("wb")))
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._stack.close()
        if kind is None and self.count:
            if self.folder.exists():
                self.folder.rmdir()  # empty, see above
            os.replace(self._partial, self.folder)
        else:
            shutil.rmtree(self._partial, ignore_errors=True)

    def add(self, image: np.ndarray) -> None:
        """Append ``image`` (C, R, R), uint8."""
        expected = (self.channels, self.resolution, self.resolution)
        if image.shape != expected or image.dtype != np.uint8:
            raise ValueError(
                f"{self.folder}: image {self.count} is {image.dtype} {image.shape}, uint8 "
                f"{expected} is needed"
            )
        write_record(self._files[0], encode_image(image))
        level = image.astype(np.float32)
        for file in self._files[1:]:
            level = (
                level[:, 0::2, 0::2]
                + level[:, 0::2, 1::2]
                + level[:, 1::2, 0::2]
                + level[:, 1::2, 1::2]
            ) * np.float32(0.25)
            write_record(file, encode_image(np.rint(level).astype(np.uint8)))
        self.count += 1

    def add_labels(self, labels: np.ndarray) -> None:
        """Write ``labels`` (N, L) of the N images, in the order they were added."""
        if labels.ndim != 2 or len(labels) != self.count:
            raise ValueError(f"{self.folder}: labels {labels.shape} for {self.count} images")
        with (self._partial / f"{self.folder.name}-rxx.labels").open("wb") as file:
            np.save(file, labels.astype(np.float32))


def shuffled_order(count: int) -> np.ndarray:
    """The order (N,) in which the authors' tool writes N images."""
    order = np.arange(count)
    np.random.RandomState(SHUFFLE_SEED).shuffle(order)
    return order


def write_tfrecords(
    images: Images,
    folder: str | Path,
    *,
    order: Sequence[int] | np.ndarray | None = None,
    labels: bool = True,
    grey: bool = False,
    batch_size: int = 64,
) -> Path:
    """Write ``images`` in all resolutions.

    Args:
        images: N images of R x R pixels, R a power of two.
        folder: the new folder.
        order: places of the images to write (`shuffled_order`); None writes all as they come.
        labels: write their labels too: `label_vectors` if they have some, else one-hot.
        grey: write the first channel only.
        batch_size: images read at once.
    """
    places = torch.as_tensor(np.arange(len(images)) if order is None else np.asarray(order))
    writer = TfrecordWriter(folder, resolution=images.resolution, channels=1 if grey else 3)
    with writer:
        for part in places.split(batch_size):
            for image in images.read(part).cpu().numpy():
                writer.add(image[: writer.channels])
        if labels:
            vectors = getattr(images, "label_vectors", None)
            if vectors is None:
                vectors = torch.eye(len(images.class_names))[images.labels.cpu()]
            writer.add_labels(vectors[places].numpy())
    return Path(folder)
