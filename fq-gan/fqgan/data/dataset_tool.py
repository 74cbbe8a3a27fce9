"""What ``fqgan prepare`` does with TFRecords: write, show, extract, compare."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..runtime.download import download
from ..runtime.files import write_atomically
from .datasets import DataConfig, build_images
from .digits import FILES, read_mnist, read_svhn
from .images import Images
from .tfrecords import TfrecordImages, level_files, read_tfrecords, shuffled_order, write_tfrecords

logger = logging.getLogger(__name__)
NOTE = "prepared.json"


@dataclass(frozen=True)
class TfrecordsOptions:
    """Write any data set as StyleGAN's multi-resolution TFRecords."""

    out: str
    """The new folder; its name is that of the data set."""
    data: DataConfig = field(default_factory=DataConfig)
    shuffle: bool = True
    """Write the images in the fixed random order of the authors' tool."""
    labels: bool = True
    """Write class labels, where there is more than one class."""
    grey: bool = False
    """Write one channel (MNIST)."""
    num_images: int = 0
    """Stop after so many images; 0 writes all."""


@dataclass(frozen=True)
class DisplayOptions:
    """Write images of TFRecords as one PNG."""

    path: str
    """Folder of the data set, or one of its files."""
    out: str = "sheet.png"
    """The PNG."""
    resolution: int = 0
    """Which of the resolutions; 0 takes the largest."""
    first: int = 0
    """Number of the first image."""
    num_images: int = 64
    """How many."""
    columns: int = 8
    """Images a row."""


@dataclass(frozen=True)
class ExtractOptions:
    """Write the images of TFRecords as PNG files img00000000.png, ..."""

    path: str
    """Folder of the data set, or one of its files."""
    out: str
    """Folder for the images; labels become labels.npy."""
    resolution: int = 0
    """Which of the resolutions; 0 takes the largest."""
    num_images: int = 0
    """The first so many; 0 takes all."""


@dataclass(frozen=True)
class CompareOptions:
    """Compare two sets of TFRecords: every image of every resolution, and the labels."""

    first: str
    """Folder of one data set."""
    second: str
    """Folder of the other."""


@dataclass(frozen=True)
class DigitsOptions:
    """Fetch MNIST or SVHN (official files, checked by their md5)."""

    data_dir: str = ""
    """Folder that receives the files; empty takes data/mnist or data/svhn."""


def prepare_tfrecords(options: TfrecordsOptions) -> None:
    """Write, unless the folder is there and was made with the same options."""
    note = Path(options.out) / NOTE
    source = json.dumps({k: v for k, v in asdict(options).items() if k != "out"}, indent=2)
    if note.is_file() and note.read_text() == source:
        _describe(read_tfrecords(options.out))
        return
    images = build_images(options.data)
    order = shuffled_order(len(images)) if options.shuffle else np.arange(len(images))
    write_tfrecords(
        images,
        options.out,
        order=order[: options.num_images or None],
        labels=options.labels and has_labels(images),
        grey=options.grey,
    )
    write_atomically(note, source)
    _describe(read_tfrecords(options.out))


def has_labels(images: Images) -> bool:
    """Whether ``images`` have more than one class, or vectors as labels."""
    return len(images.class_names) > 1 or getattr(images, "label_vectors", None) is not None


def prepare_display(options: DisplayOptions) -> None:
    """Lay images out row by row."""
    images = read_tfrecords(options.path, options.resolution)
    chosen = torch.arange(len(images))[options.first :][: options.num_images]
    if len(chosen) == 0:
        raise ValueError(f"--first {options.first}: {images.name} has {len(images)} images")
    size, columns = images.resolution, min(options.columns, len(chosen))
    sheet = Image.new("RGB", (columns * size, -(-len(chosen) // columns) * size))
    for place, image in enumerate(images.read(chosen)):
        row, column = divmod(place, columns)
        sheet.paste(_picture(image), (column * size, row * size))
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out)
    logger.info("%s: images %d to %d", options.out, chosen[0], chosen[-1])


def prepare_extract(options: ExtractOptions) -> None:
    """Write one file for each image."""
    images = read_tfrecords(options.path, options.resolution)
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    places = torch.arange(len(images))[: options.num_images or None]
    for part in places.split(64):
        for place, image in zip(part.tolist(), images.read(part), strict=True):
            _picture(image).save(folder / f"img{place:08d}.png")
    if images.label_vectors is not None:
        np.save(folder / "labels.npy", images.label_vectors[places].numpy())
    logger.info("%s: %d images of %d pixels", folder, len(places), images.resolution)


def prepare_compare(options: CompareOptions) -> None:
    """Say what differs; nothing is written."""
    sets = [level_files(path) for path in (options.first, options.second)]
    for resolution in sorted(set(sets[0]) | set(sets[1]), reverse=True):
        missing = [
            path
            for path, files in zip((options.first, options.second), sets, strict=True)
            if resolution not in files
        ]
        if missing:
            logger.info("%d pixels: %s has none", resolution, missing[0])
            continue
        pair = [TfrecordImages(files[resolution]) for files in sets]
        same = sum(_same(pair, part) for part in torch.arange(min(map(len, pair))).split(64))
        logger.info("%d pixels: %d and %d images, %d identical", resolution, *map(len, pair), same)
    labels = [read_tfrecords(path).label_vectors for path in (options.first, options.second)]
    first, second = labels
    if first is None or second is None:
        equal = first is None and second is None
    else:
        equal = torch.equal(first, second)
    logger.info("labels: %s", "identical" if equal else "different")


def _same(pair: list[TfrecordImages], part: torch.Tensor) -> int:
    first, second = (images.read(part) for images in pair)
    return int((first == second).flatten(1).all(dim=1).sum())


def prepare_digits(name: str, options: DigitsOptions) -> None:
    """Fetch the files that are not there yet, and read them."""
    folder = Path(options.data_dir or f"data/{name}")
    for file in FILES[name]:
        path = folder / file.url.split("/")[-1]
        if not path.is_file():
            download(file.url, path, md5=file.md5, mirrors=file.mirrors)
    read = read_mnist if name == "mnist" else read_svhn
    for split in ("train", "test"):
        _describe(read(folder, split))


def _picture(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def _describe(images: Images) -> None:
    size, classes = images.resolution, len(images.class_names)
    logger.info("%s: %d images of %d pixels, %d classes", images.name, len(images), size, classes)
