"""Which images a run uses: one table of options, one function that opens them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from .batches import Batches, some
from .cifar import ARCHIVES, read_cifar
from .folders import read_folder, read_zip
from .hdf5 import read_hdf5
from .images import ArrayImages, Images, Subset, in_memory
from .toy import toy_images


@dataclass(frozen=True)
class DataConfig:
    """The images of a run."""

    source: Literal["cifar10", "cifar100", "folder", "zip", "hdf5", "toy"] = "cifar10"
    """Kind of data set; "toy" is made by code."""
    path: str = "data/cifar"
    """Folder or file that `fqgan prepare` wrote; a folder or zip of CLASS/IMAGE."""
    resolution: int = 32
    """Width and height in pixels; folders and zips are cut square and resized to it."""
    split: Literal["train", "validation", "test"] = "train"
    """Part of the data set (CIFAR, and zips with folders of these names)."""
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
    limit: int = 0
    """Use a fixed random choice of so many images; 0 takes all."""
    skip_other_files: bool = False
    """Pass over files that are no images instead of stopping."""

    def __post_init__(self) -> None:
        for option in ("resolution", "workers", "toy_images"):
            if getattr(self, option) < 1:
                name = option.replace("_", "-")
                raise ValueError(f"--data.{name} must be at least 1, got {getattr(self, option)}")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(
                f"--data.validation-fraction must be in [0, 1), got {self.validation_fraction}"
            )
        if self.limit < 0:
            raise ValueError(f"--data.limit must not be negative, got {self.limit}")
        if self.source in ARCHIVES and self.resolution != 32:
            raise ValueError(f"--data.resolution {self.resolution}: {self.source} has 32 pixels")


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
    images = _open(config, seed)
    if images.resolution != config.resolution:
        raise ValueError(
            f"{images.name} holds images of {images.resolution} pixels, --data.resolution asks for "
            f"{config.resolution}; change the option or prepare the data again"
        )
    if 0 < config.limit < len(images):
        images = Subset(images, some(len(images), config.limit))
    return in_memory(images) if config.in_memory else images


def _open(config: DataConfig, seed: int) -> Images:
    if config.source == "toy":
        return toy_images(config.toy_images, seed=seed, resolution=config.resolution)
    if config.source == "hdf5":
        return read_hdf5(config.path)
    if config.source == "folder":
        return read_folder(
            config.path,
            resolution=config.resolution,
            workers=config.workers,
            skip_other_files=config.skip_other_files,
        )
    if config.source == "zip":
        return read_zip(
            config.path,
            resolution=config.resolution,
            split=config.split,
            workers=config.workers,
            skip_other_files=config.skip_other_files,
        )
    return read_cifar(config.source, config.path, config.split, config.validation_fraction)


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
