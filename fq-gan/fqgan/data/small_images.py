"""Readers of CIFAR, MNIST and SVHN as their authors publish them."""

from __future__ import annotations

import gzip
import pickle
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..runtime.files import why
from .images import ArrayImages

SITE = "https://www.cs.toronto.edu/~kriz/"
MIRROR = "https://cave.cs.toronto.edu/kriz/"  # where the site has moved to


@dataclass(frozen=True)
class Archive:
    """One of the two data sets, as distributed."""

    url: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_key: str
    names_file: str
    names_key: str

    @property
    def mirrors(self) -> tuple[str, ...]:
        return (self.url.replace(SITE, MIRROR),)


ARCHIVES = {
    "cifar10": Archive(
        SITE + "cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        "cifar-10-batches-py",
        tuple(f"data_batch_{number}" for number in range(1, 6)),
        ("test_batch",),
        "labels",
        "batches.meta",
        "label_names",
    ),
    "cifar100": Archive(
        SITE + "cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
        "cifar-100-python",
        ("train",),
        ("test",),
        "fine_labels",
        "meta",
        "fine_label_names",
    ),
}

# What a pickled numpy array of bytes needs, under its old and its new module names.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dicts, lists, strings and numpy arrays, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_cifar(
    name: str, root: str | Path, split: str = "train", validation_fraction: float = 0.0
) -> ArrayImages:
    """Read ``cifar10`` or ``cifar100`` below ``root``, or in it.

    Args:
        name: key of `ARCHIVES`.
        root: where the archive was unpacked.
        split: "train", "validation" (taken from the training images) or "test".
        validation_fraction: share of every class that "validation" takes from "train".
    """
    archive = ARCHIVES[name]
    folder = Path(root) / archive.folder
    if not folder.is_dir():
        folder = Path(root)
    files = archive.test if split == "test" else archive.train
    missing = [file for file in (*files, archive.names_file) if not (folder / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{Path(root) / archive.folder} has no {missing[0]}; "
            f"run: fqgan prepare {name} --data-dir {root}"
        )
    class_names = [_text(n) for n in _load(folder / archive.names_file)[archive.names_key]]
    pixels, labels = [], []
    for file in files:
        content = _load(folder / file)
        pixels.append(_pixels(content.get("data"), folder / file))
        labels.append(torch.as_tensor(content[archive.label_key], dtype=torch.int64))
    all_pixels, all_labels = torch.cat(pixels), torch.cat(labels)
    if split != "test" and validation_fraction > 0:
        held_out = held_out_mask(all_labels, validation_fraction)
        chosen = held_out if split == "validation" else ~held_out
        all_pixels, all_labels = all_pixels[chosen], all_labels[chosen]
    elif split == "validation":
        raise ValueError("--data.split validation needs --data.validation-fraction above 0")
    return ArrayImages(all_pixels, all_labels, class_names, f"{folder} ({split})")


def held_out_mask(labels: Tensor, fraction: float) -> Tensor:
    """A fixed ``fraction`` of every class, drawn with its own generator: (N,), bool."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=generator)
        mask[members[order[: round(fraction * len(members))]]] = True
    return mask


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return _read_pickle(file)
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError) as error:
        raise ValueError(
            f"{path} is not a CIFAR file ({why(error)}); move it away and run fqgan prepare again"
        ) from error


def _read_pickle(file: BinaryIO) -> dict[str, Any]:
    content = _ArrayUnpickler(file, encoding="latin1").load()  # written by Python 2
    if not isinstance(content, dict):
        raise ValueError("it holds no dictionary")
    return content


def _pixels(data: Any, path: Path) -> Tensor:
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3072,):
        raise ValueError(f"{path} is not a CIFAR file (its data are no rows of 3072 bytes)")
    return torch.from_numpy(data.reshape(-1, 3, 32, 32).copy())


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


DIGITS = [str(digit) for digit in range(10)]
STACKED_SEED = 123
"""The authors' tool draws the digits of colour MNIST with this seed."""


class SourceFile(NamedTuple):
    """One official file."""

    url: str
    md5: str
    mirror: str = ""  # where another host has it under the same name


# The authors' own host of MNIST refuses downloads; these two hold the same bytes.
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MIRROR = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_SVHN = "http://ufldl.stanford.edu/housenumbers/"
FILES: dict[str, tuple[SourceFile, ...]] = {
    "mnist": (
        SourceFile(
            _MNIST + "train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", _MIRROR
        ),
        SourceFile(
            _MNIST + "train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", _MIRROR
        ),
        SourceFile(
            _MNIST + "t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", _MIRROR
        ),
        SourceFile(
            _MNIST + "t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", _MIRROR
        ),
    ),
    "svhn": (
        SourceFile(_SVHN + "train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"),
        SourceFile(_SVHN + "test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"),
    ),
}


def read_mnist(root: str | Path, split: str = "train") -> ArrayImages:
    """MNIST with two black pixels on every side (32 x 32), three equal channels.

    Raises:
        FileNotFoundError: ``root`` lacks a file of the ``split`` ("train" or "test").
        ValueError: a file is damaged.
    """
    name = "t10k" if split == "test" else "train"
    pixels = _read_idx(Path(root) / f"{name}-images-idx3-ubyte.gz", 3)
    labels = _read_idx(Path(root) / f"{name}-labels-idx1-ubyte.gz", 1)
    padded = torch.from_numpy(np.pad(pixels, ((0, 0), (2, 2), (2, 2))))
    rgb = padded[:, None].expand(-1, 3, -1, -1)
    return ArrayImages(rgb, torch.from_numpy(labels), DIGITS, f"{root} ({split})")


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    plain = path.with_suffix("")
    if not path.is_file() and not plain.is_file():
        raise _missing(path, "mnist")
    try:
        content = gzip.decompress(path.read_bytes()) if path.is_file() else plain.read_bytes()
        if content[:4] != bytes([0, 0, 8, dimensions]):
            raise ValueError("its first bytes are others")
        shape = np.frombuffer(content, ">u4", dimensions, 4).astype(int)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _damaged(path, "mnist", error) from error


class StackedDigits:
    """Colour MNIST: three digits drawn at random, one in each channel; no labels.

    Args:
        digits: what is drawn from.
        count: number of images.
    """

    def __init__(self, digits: ArrayImages, count: int) -> None:
        self._pixels = digits.pixels[:, 0]
        self.name, self.resolution = f"{digits.name}, in three colours", digits.resolution
        draws = np.random.RandomState(STACKED_SEED).randint(len(digits), size=(count, 3))
        self._draws = torch.from_numpy(draws)
        self.labels, self.class_names = torch.zeros(count, dtype=torch.int64), ["0"]

    def __len__(self) -> int:
        return len(self._draws)

    def read(self, index: Tensor, crop: Tensor | None = None) -> Tensor:
        """See `Images.read`."""
        return self._pixels[self._draws[index]]


def read_svhn(root: str | Path, split: str = "train") -> ArrayImages:
    """The cropped digits of SVHN, 32 x 32; label 10 of the files is the digit 0.

    Raises:
        FileNotFoundError: ``root`` lacks the file of the ``split`` ("train" or "test").
        ValueError: the file is damaged.
    """
    from scipy.io import loadmat

    path = Path(root) / f"{'test' if split == 'test' else 'train'}_32x32.mat"
    if not path.is_file():
        raise _missing(path, "svhn")
    try:
        content = loadmat(path, variable_names=["X", "y"])
        pixels, labels = content["X"], content["y"].reshape(-1).astype(np.int64) % 10
        images = np.ascontiguousarray(pixels.transpose(3, 2, 0, 1))
    except Exception as error:  # a damaged file can lead the parser to any of them
        raise _damaged(path, "svhn", error) from error
    return ArrayImages(torch.from_numpy(images), torch.from_numpy(labels), DIGITS, str(path))


def _missing(path: Path, name: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"{path} is missing; run: fqgan prepare {name} --data-dir {path.parent}"
    )


def _damaged(path: Path, name: str, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is damaged ({why(error)}); move it away and run: fqgan prepare {name} "
        f"--data-dir {path.parent}"
    )
