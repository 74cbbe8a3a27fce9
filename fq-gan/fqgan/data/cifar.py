"""CIFAR-10 and CIFAR-100 from the official "python version" archives (Krizhevsky, 2009)."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

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
            f"{path} is not a CIFAR file ({error}); delete it and run fqgan prepare again"
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
