"""Which images a run uses: one table of options, one function that opens them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from ..runtime.options import ADDED, at_least, option, shown
from .batches import Batches, fixed_choice
from .folders import (
    DESCRIPTION,
    read_celeba,
    read_folder,
    read_lsun,
    read_photographs,
    read_zip,
    visible,
)
from .hdf5 import read_hdf5
from .images import ArrayImages, Images, Subset, in_memory, is_image_name
from .shards import SHARD_ENDINGS, read_shards
from .small_images import ARCHIVES, StackedDigits, read_cifar, read_mnist, read_svhn
from .tfrecords import read_tfrecords
from .toy import SHAPES, toy_images

Source = Literal[
    "cifar10", "cifar100", "folder", "zip", "hdf5", "toy", "tfrecords", "images", "mnist",
    "mnist-rgb", "svhn", "celeba", "lsun", "lsun-wide", "shards",
]  # fmt: skip
SIZES = {"cifar10": 32, "cifar100": 32, "mnist": 32, "mnist-rgb": 32, "svhn": 32, "celeba": 128}
"""Sources whose images have one size."""

FIXED = (
    *("data.source", "data.path", "data.resolution", "data.split", "data.validation_fraction"),
    *("data.augment", "data.toy_images", "data.toy_variation", "data.limit"),
)
"""Options that say which images a run learns from, in which form."""
PICTURES: tuple[Source, ...] = ("folder", "images", "zip", "celeba")  # read one image file each
READ_BY: dict[str, tuple[Source, ...]] = {
    "split": ("cifar10", "cifar100", "mnist", "mnist-rgb", "svhn", "zip"),
    "validation_fraction": ("cifar10", "cifar100"),
    "workers": (*PICTURES, "lsun", "lsun-wide", "shards"),
    "skip_other_files": PICTURES,
    "toy_images": ("toy",),
    "toy_variation": ("toy",),
}
"""Options that belong to some sources, and these."""


@dataclass(frozen=True)
class DataConfig:
    """The images of a run."""

    source: Source = "cifar10"
    """Kind of data set: "folder" has CLASS/IMAGE, "images" no classes, "shards" are many tar or zip
    files; "toy" is made by code."""
    path: str = "data/cifar"
    """Folder or file that `fqgan prepare` wrote; a folder or zip of images."""
    resolution: int = 32
    """Width and height in pixels; image files are resized to it, TFRecords hold several."""
    split: Literal["train", "validation", "test"] = "train"
    """Part of the data set (CIFAR, MNIST, SVHN, and zips with folders of these names)."""
    validation_fraction: float = 0.0
    """Share of every CIFAR class that moves from "train" to "validation"."""
    augment: bool = False
    """Mirror at random; cut anywhere on the long edge; CIFAR: shift by up to 4 pixels."""
    in_memory: bool = False
    """Decode everything once and keep it, cut at the centre, on the device where it fits."""
    workers: int = 4
    """Threads that decode image files."""
    toy_images: int = 10_000
    """Number of toy images."""
    toy_variation: float = field(default=1.0, metadata=ADDED)
    """How far toy shapes are from the middle and from one size: 0 not at all, to 1."""
    limit: int = 0
    """Use a fixed random choice of so many images; 0 takes all."""
    skip_other_files: bool = False
    """Pass over files that are no images instead of stopping."""

    def __post_init__(self) -> None:
        at_least(self, "data", resolution=1, workers=1, toy_images=len(SHAPES), limit=0)
        check_path(self.source, self.path, DataConfig.path)
        if not 0 <= self.toy_variation <= 1:
            raise ValueError(f"--data.toy-variation must be in [0, 1], got {self.toy_variation}")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(
                f"--data.validation-fraction must be in [0, 1), got {self.validation_fraction}"
            )
        if self.resolution != SIZES.get(self.source, self.resolution):
            raise ValueError(
                f"--data.resolution {self.resolution}: {self.source} has {SIZES[self.source]} "
                "pixels"
            )

    def unused(self) -> dict[str, str]:
        """Options that this source does not read, see `unused_options`."""
        unused: dict[str, str] = {}
        for name, sources in READ_BY.items():
            if self.source not in sources:
                unused[option(name, "data")] = (
                    f"it is for --data.source {' or '.join(sources)}, got {self.source}; drop it"
                )
        if self.split == "test":
            unused.setdefault(
                "--data.validation-fraction",
                "--data.split test is whole in any case; drop one of them",
            )
        return unused


def check_path(source: str, path: str, default: str) -> None:
    """Refuse a ``--data.path`` that the ``source`` does not read, and none where it reads one."""
    if source == "toy" and path not in ("", default):
        raise ValueError(
            f"--data.path {shown(path)} is not read with --data.source toy, whose images are made "
            "by code; give --data.path '', or another source"
        )
    if source != "toy" and not path:
        raise ValueError(f"--data.path is empty: say where the images of {source} are")


LEGACY_DATASETS: dict[str, DataConfig] = {
    "C10": DataConfig("cifar10", "cifar"),
    "C100": DataConfig("cifar100", "cifar"),
    **{
        f"I{size}": DataConfig("folder", "ImageNet", resolution=size) for size in (32, 64, 128, 256)
    },
    **{
        f"I{size}_hdf5": DataConfig("hdf5", f"ILSVRC{size}.hdf5", resolution=size)
        for size in (32, 64, 128, 256)
    },
    **{f"I{size}ext": DataConfig("folder", "Ext", resolution=size) for size in (64, 128)},
    **{
        f"I{size}ext_hdf5": DataConfig("hdf5", f"I{size}Ext.hdf5", resolution=size)
        for size in (64, 128)
    },
}
"""The authors' data set names; paths are relative to their ``--data_root``."""


def build_images(config: DataConfig, *, seed: int = 0) -> Images:
    """Open the images of ``config``; ``seed`` draws the toy images.

    Raises:
        FileNotFoundError, ValueError: see the readers; also for images of another size.
    """
    if fitting := better_source(config.source, config.path):
        raise ValueError(
            f"--data.path {config.path} is not what --data.source {config.source} reads; "
            f"give --data.source {fitting}"
        )
    images = _open(config, seed)
    if images.resolution != config.resolution:
        raise ValueError(
            f"{images.name} holds images of {images.resolution} pixels, --data.resolution asks for "
            f"{config.resolution}; change the option or prepare the data again"
        )
    if 0 < config.limit < len(images):
        images = Subset(images, fixed_choice(len(images), config.limit))
    return in_memory(images) if config.in_memory else images


FILE_SOURCES: dict[str, Source] = {
    ".zip": "zip", ".tar": "shards", ".h5": "hdf5", ".hdf5": "hdf5", ".tfrecords": "tfrecords",
}  # fmt: skip
"""Which source reads a file of this ending."""


def better_source(source: str, path: str) -> Source | None:
    """The source that reads ``path`` where ``source`` cannot; None where nothing says so."""
    place = Path(path)
    if source not in {"folder", "images", *FILE_SOURCES.values()}:
        return None
    if place.is_file():
        fitting = FILE_SOURCES.get(place.suffix.lower())
        return None if (source, fitting) in {(fitting, fitting), ("shards", "zip")} else fitting
    if not place.is_dir():
        return None
    inside = [one for one in place.iterdir() if visible(one.name)]
    endings = {one.suffix.lower() for one in inside}
    if ".tfrecords" in endings and source == "tfrecords":
        return None
    if endings.intersection(SHARD_ENDINGS) and source == "shards":
        return None
    if any(one.is_dir() for one in inside):
        return None if source in ("folder", "images") or not _holds_images(place) else "folder"
    if any(is_image_name(one.name) for one in inside):
        described = any(one.name == DESCRIPTION for one in inside)  # an NVlabs set has classes
        return None if source == "images" or described else "images"
    if ".tfrecords" in endings:
        return "tfrecords"
    return "shards" if endings.intersection(SHARD_ENDINGS) else None


def _holds_images(root: Path) -> bool:
    return any(is_image_name(name) for _, _, names in os.walk(root) for name in names)


def _open(config: DataConfig, seed: int) -> Images:
    size, path = config.resolution, config.path
    files: dict[str, Any] = {
        "workers": config.workers,
        "skip_other_files": config.skip_other_files,
    }
    match config.source:
        case "toy":
            return toy_images(
                config.toy_images, seed=seed, resolution=size, variation=config.toy_variation
            )
        case "hdf5":
            return read_hdf5(path)
        case "tfrecords":
            return read_tfrecords(path, size)
        case "folder":
            return read_folder(path, resolution=size, **files)
        case "images":
            return read_photographs(path, resolution=size, **files)
        case "zip":
            return read_zip(path, resolution=size, split=config.split, **files)
        case "shards":
            return read_shards(path, resolution=size, workers=config.workers)
        case "mnist":
            return read_mnist(path, config.split)
        case "mnist-rgb":
            return StackedDigits(read_mnist(path, config.split), config.limit or 1_000_000)
        case "svhn":
            return read_svhn(path, config.split)
        case "celeba":
            return read_celeba(path, **files)
        case "lsun" | "lsun-wide":
            wide = config.source == "lsun-wide"
            return read_lsun(
                path, resolution=size, wide=wide, workers=config.workers, limit=config.limit
            )
        case "cifar10" | "cifar100":
            return read_cifar(config.source, path, config.split, config.validation_fraction)


def build_batches(
    config: DataConfig,
    images: Images,
    batch_size: int,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Batches:
    """Endless training batches of ``images``, opened by `build_images` from the same ``config``.

    Images in memory move to a CUDA ``device`` where they take at most a quarter of what is free.
    """
    device = torch.device(device)
    if isinstance(images, ArrayImages) and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if images.pixels.nbytes * 4 <= free:
            images = images.to(device)
    return Batches(
        images,
        batch_size,
        seed=seed,
        device=device,
        augment=config.augment,
        pad=4 if config.source in ARCHIVES and config.augment else 0,
    )


def data_name(config: DataConfig) -> str:
    """A short name for tables: "cifar10", "toy", or the file's or folder's own."""
    return config.source if config.source in {*ARCHIVES, "toy"} else Path(config.path).stem
