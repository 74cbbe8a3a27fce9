"""MNIST (LeCun et al., 1998) and SVHN (Netzer et al., 2011), from their official files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .images import ArrayImages

DIGITS = [str(digit) for digit in range(10)]
STACKED_SEED = 123
"""The authors' tool draws the digits of colour MNIST with this seed."""


class SourceFile(NamedTuple):
    """One official file."""

    url: str
    md5: str
    mirrors: tuple[str, ...] = ()


def _mnist(name: str, md5: str) -> SourceFile:
    # The authors' own host refuses downloads; these two hold the same bytes.
    mirror = f"https://storage.googleapis.com/cvdf-datasets/mnist/{name}"
    return SourceFile(f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}", md5, (mirror,))


_SVHN = "http://ufldl.stanford.edu/housenumbers/"
FILES: dict[str, tuple[SourceFile, ...]] = {
    "mnist": (
        _mnist("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        _mnist("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        _mnist("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        _mnist("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
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
        f"{path} is damaged ({error}); delete it and run: fqgan prepare {name} --data-dir "
        f"{path.parent}"
    )
