"""HDF5 files of images, in the authors' layout: ``imgs`` (N, 3, R, R) uint8, ``labels`` (N,).

Files with one array ``data`` instead, as StyleGAN's dataset tool takes them, are read too.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import torch
from torch import Tensor

from ..runtime.files import json_text, why
from .images import Images, check_classes, in_memory, normalize, to_bytes
from .tfrecords import classes_of


def write_hdf5(
    images: Images,
    path: str | Path,
    *,
    chunk_size: int = 500,
    compression: Literal["lzf"] | None = None,
    truncate: bool = False,
    batch_size: int = 256,
) -> Path:
    """Write ``images`` in their order; the file gets its name when it is whole.

    Args:
        images: what to write.
        path: of the new file.
        chunk_size: images per chunk, at most N.
        compression: "lzf" halves the size and slows random reading.
        truncate: store the levels that the authors' writer stores (see `to_bytes`).
        batch_size: images read at a time.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    count, size = len(images), images.resolution
    chunk = max(1, min(chunk_size, count))
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(partial, "w") as file:
            pixels = file.create_dataset(
                "imgs",
                (count, 3, size, size),
                "uint8",
                chunks=(chunk, 3, size, size),
                maxshape=(count, 3, size, size),
                compression=compression,
            )
            labels = file.create_dataset(
                "labels",
                data=images.labels.cpu().numpy().astype("int64"),
                chunks=(chunk,),
                maxshape=(count,),
                compression=compression,
            )
            labels.attrs["class_names"] = json_text(images.class_names)
            for index in torch.arange(count).split(batch_size):
                part = images.read(index).cpu()
                if truncate:
                    part = to_bytes(normalize(part), truncate=True)
                pixels[int(index[0]) : int(index[-1]) + 1] = part.numpy()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read_hdf5(path: str | Path, *, load: bool = False) -> Images:
    """Open a file of `write_hdf5` or of the authors' ``make_hdf5``.

    Args:
        path: of the file.
        load: read all pixels into memory now.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or not of this layout.
    """
    images = HDF5Images(path)
    return in_memory(images) if load else images


class HDF5Images:
    """Images read from an open HDF5 file, sorted by position and by one thread at a time."""

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        if not Path(path).is_file():
            if Path(path).is_dir():
                raise FileNotFoundError(f"{path} is a folder; give an HDF5 file")
            raise FileNotFoundError(
                f"{path} does not exist; make it with: fqgan prepare hdf5 --out {path}"
            )
        names: object = None
        try:
            self._file = h5py.File(path, "r", rdcc_nbytes=1 << 26)
            if "data" in self._file and "imgs" not in self._file:  # StyleGAN's dataset tool
                self._pixels = self._file["data"]
                self.labels, names = _labels_beside(Path(path), len(self._pixels))
            else:
                self._pixels, labels = self._file["imgs"], self._file["labels"]
                self.labels = _whole_labels(path, labels)
                names = labels.attrs.get("class_names")
        except KeyError as error:
            raise ValueError(
                f"{path} lacks the data sets 'imgs' and 'labels'; write it with fqgan prepare hdf5"
            ) from error
        except OSError as error:
            raise _damaged(path, error) from error
        shape: tuple[int, ...] = getattr(self._pixels, "shape", ())
        if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or self._pixels.dtype != "u1":
            raise ValueError(
                f"{path}: {self._pixels.name[1:]!r} is {getattr(self._pixels, 'dtype', 'a group')} "
                f"{shape}, uint8 (N, 3, R, R) is needed"
            )
        if shape[0] != len(self.labels):
            raise ValueError(f"{path} has {shape[0]} images and {len(self.labels)} labels")
        self.resolution = int(shape[2])
        self.class_names = _class_names(path, names, self.labels)
        check_classes(self.labels, self.class_names, self.name)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: Tensor, crop: Tensor | None = None) -> Tensor:
        """See `Images.read`; raises ``ValueError`` where the file is damaged."""
        places, back = torch.unique(index, return_inverse=True)  # sorted, as the format wants
        try:
            with self._lock:
                rows = [self._pixels[start:stop] for start, stop in _runs(places.tolist())]
        except OSError as error:
            raise _damaged(self.name, error) from error
        return torch.from_numpy(np.concatenate(rows))[back]


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Stretches of consecutive places: one read each."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return runs


def _labels_beside(path: Path, count: int) -> tuple[Tensor, str]:
    """Classes and their names as JSON, from the one-hot ``NAME-labels.npy`` beside a file."""
    vectors, file = None, path.with_name(f"{path.stem}-labels.npy")
    if file.is_file():
        try:
            vectors = torch.from_numpy(np.load(file, allow_pickle=False).astype(np.float32))
        except (ValueError, TypeError, EOFError, AttributeError) as error:
            raise ValueError(
                f"{file} is no whole array of labels ({why(error)}); move it away to train without "
                "classes, or write the data set again"
            ) from error
    labels, names = classes_of(vectors, count)
    return labels, json_text(names)


def _whole_labels(path: str | Path, labels: object) -> Tensor:
    if not isinstance(labels, h5py.Dataset) or labels.ndim != 1 or labels.dtype.kind not in "iu":
        what = f"{labels.dtype} {labels.shape}" if isinstance(labels, h5py.Dataset) else "a group"
        raise ValueError(
            f"{path}: 'labels' is {what}, one whole number for each image is needed; write it with "
            "fqgan prepare hdf5"
        )
    return torch.from_numpy(np.asarray(labels[:], dtype=np.int64))


def _class_names(path: str | Path, names: object, labels: Tensor) -> list[str]:
    if isinstance(names, (str, bytes)):
        try:
            return [str(name) for name in json.loads(names)]
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path}: the attribute 'class_names' of 'labels' is no JSON list of names "
                f"({why(error)}); write it with fqgan prepare hdf5"
            ) from error
    return [str(label) for label in range(int(labels.max()) + 1)] if len(labels) else []


def _damaged(path: str | Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is not a whole HDF5 file ({why(error)}); give another, or move it away "
        "and write it again with fqgan prepare hdf5"
    )
