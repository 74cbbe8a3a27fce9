"""``fqgan prepare``: fetch, check and convert data; running it again changes nothing."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from ..metrics.cache import cached_file, default_cache_dir
from ..metrics.features import (
    SOURCES,
    FeatureName,
    build_extractor,
    inception_file,
    load_inception,
)
from ..metrics.inception import Variant
from ..metrics.inception_score import inception_score
from ..metrics.lpips import FILES as LPIPS_FILES, load_lpips
from ..metrics.moments import author_moments_name, write_moments
from ..metrics.statistics import collect, write_statistics
from ..runtime.archive import extract
from ..runtime.command import parse
from ..runtime.distributed import choose_device
from ..runtime.download import download, verify
from ..runtime.files import write_atomically
from .batches import once
from .cifar import ARCHIVES, read_cifar
from .dataset_tool import (
    CompareOptions,
    DigitsOptions,
    DisplayOptions,
    ExtractOptions,
    TfrecordsOptions,
    prepare_compare,
    prepare_digits,
    prepare_display,
    prepare_extract,
    prepare_tfrecords,
)
from .datasets import DataConfig, build_images, data_name
from .folders import read_folder
from .hdf5 import read_hdf5, write_hdf5
from .imagenet import unpack_imagenet
from .images import Images
from .prepare_unpaired import VERBS as UNPAIRED_VERBS
from .statistics import statistics_path
from .toy import toy_images

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CifarOptions:
    """Fetch and unpack CIFAR (the official "python version", checked by its md5)."""

    data_dir: str = "data/cifar"
    """Folder that receives the archive and its contents."""
    archive: str = ""
    """An archive that is here already, instead of a download."""


@dataclass(frozen=True)
class ImagenetOptions:
    """Unpack ImageNet (ILSVRC 2012), which needs an account at image-net.org."""

    archive: str = ""
    """ILSVRC2012_img_train.tar, fetched by hand; empty only checks `data_dir`."""
    data_dir: str = "data/ImageNet"
    """Folder that receives one folder per class."""


@dataclass(frozen=True)
class FolderOptions:
    """Check a folder of CLASS/IMAGE: every file is decoded once, and the list is cached."""

    path: str
    """The folder."""
    resolution: int = 64
    """Size that the images are cut and resized to."""
    workers: int = 4
    """Threads that decode."""
    skip_other_files: bool = False
    """Pass over files that are no images."""


@dataclass(frozen=True)
class Hdf5Options:
    """Write any data set as one HDF5 file, in the authors' layout."""

    out: str
    """The new file."""
    data: DataConfig = field(default_factory=DataConfig)
    chunk_size: int = 500
    """Images per chunk."""
    compression: Literal["none", "lzf"] = "none"
    """"lzf" makes the file smaller and random reading slower."""
    legacy_truncation: bool = False
    """Store grey levels 1 to 63 one too low, as the authors' writer does."""


@dataclass(frozen=True)
class ToyOptions:
    """Write toy images (ten shapes) as an HDF5 file."""

    out: str = "data/toy.hdf5"
    """The new file."""
    toy_images: int = 10_000
    """How many."""
    resolution: int = 32
    """Their width and height."""
    seed: int = 0
    """Of the drawing."""


@dataclass(frozen=True)
class MomentsOptions:
    """Feature statistics of a data set, into the cache and into the authors' moments file."""

    data: DataConfig = field(default_factory=DataConfig)
    features: FeatureName = "inception"
    """Network: "inception" (TF weights), "inception-torch" (the authors'), or an offline one."""
    weights: str = ""
    """Weights file of the network; empty looks in the cache folder."""
    download: bool = False
    """Fetch missing Inception weights."""
    num_images: int = 0
    """Use a fixed random choice of so many images; 0 takes all."""
    batch_size: int = 64
    """Images at a time."""
    device: str = "auto"
    """auto, cpu or cuda."""
    out_dir: str = ""
    """Folder for NAME_inception_moments.npz; empty writes the cache only."""
    cache_dir: str = ""
    """Cache folder; empty takes $FQGAN_CACHE or ~/.cache/fqgan."""


@dataclass(frozen=True)
class InceptionOptions:
    """Fetch the Inception weights that FID and IS need, checked by their sha256."""

    variant: Variant = "fid"
    """"fid" for --features inception, "torchvision" for --features inception-torch."""
    file: str = ""
    """A file that is here already, instead of a download."""
    cache_dir: str = ""
    """Where it is kept; empty takes $FQGAN_CACHE or ~/.cache/fqgan."""


@dataclass(frozen=True)
class LpipsOptions:
    """Fetch VGG-16 and the linear layers of LPIPS, for path lengths and projection (sha256)."""


def prepare_cifar(name: str, options: CifarOptions) -> None:
    """Make ``data_dir`` hold the files of ``cifar10`` or ``cifar100``."""
    archive, folder = ARCHIVES[name], Path(options.data_dir)
    files = [*archive.train, *archive.test, archive.names_file]
    if not all((folder / archive.folder / file).is_file() for file in files):
        if options.archive:
            packed = Path(options.archive)
            if not packed.is_file():
                raise FileNotFoundError(f"--archive {packed} does not exist")
            verify(packed, md5=archive.md5)
        else:
            packed = folder / archive.url.split("/")[-1]
            download(archive.url, packed, md5=archive.md5, mirrors=archive.mirrors)
        extract(packed, folder)
    for split in ("train", "test"):
        _describe(read_cifar(name, folder, split))


def prepare_imagenet(options: ImagenetOptions) -> None:
    """Unpack the archive that the user fetched, or check what was unpacked."""
    folder = Path(options.data_dir)
    if options.archive:
        if not Path(options.archive).is_file():
            raise FileNotFoundError(f"--archive {options.archive} does not exist")
        unpack_imagenet(options.archive, folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} does not exist: log in at https://image-net.org/download-images, fetch "
            "ILSVRC2012_img_train.tar, and give it as --archive"
        )
    images = read_folder(folder, resolution=64)
    _describe(images)
    if len(images.class_names) != 1000:
        logger.warning("%d classes, ImageNet has 1000", len(images.class_names))


def prepare_folder(options: FolderOptions) -> None:
    """Decode every image of a folder once."""
    images = read_folder(
        options.path,
        resolution=options.resolution,
        workers=options.workers,
        skip_other_files=options.skip_other_files,
    )
    for index in torch.arange(len(images)).split(256):
        images.read(index)
    _describe(images)


def prepare_hdf5(options: Hdf5Options) -> None:
    """Convert, unless the file is there and was made with the same options."""
    source = {key: value for key, value in asdict(options).items() if key != "out"}
    if _made_before(options.out, source):
        return
    images = build_images(options.data)
    write_hdf5(
        images,
        options.out,
        chunk_size=options.chunk_size,
        compression="lzf" if options.compression == "lzf" else None,
        truncate=options.legacy_truncation,
    )
    _remember(options.out, source)


def prepare_toy(options: ToyOptions) -> None:
    """Draw and write, unless the file is there and was made with the same options."""
    source = {key: value for key, value in asdict(options).items() if key != "out"}
    if _made_before(options.out, source):
        return
    images = toy_images(options.toy_images, seed=options.seed, resolution=options.resolution)
    write_hdf5(images, options.out)
    _remember(options.out, source)


def prepare_moments(options: MomentsOptions) -> None:
    """Collect statistics of a data set and print its Inception score."""
    device = choose_device(options.device)
    cache_dir = options.cache_dir or None
    extractor = build_extractor(
        options.features,
        weights=options.weights,
        fetch=options.download,
        cache_dir=cache_dir,
        device=device,
    )
    images = build_images(options.data)
    passes = once(images, options.batch_size, device=device, limit=options.num_images)
    total = min(options.num_images, len(images)) or len(images)
    found = collect(extractor, (batch.images for batch in passes), total)
    path = statistics_path(images, extractor, options.num_images, cache_dir)
    write_statistics(path, found._replace(logits=None))
    logger.info("statistics of %d images: %s", found.moments.num_images, path)
    logger.info("protocol: %s", extractor.protocol)
    if found.logits is not None and found.moments.num_images >= 10:
        score = inception_score(found.logits.softmax(dim=1))
        logger.info("Inception score of the data: %.4f +- %.4f", score.mean, score.std)
    if options.out_dir:
        out = Path(options.out_dir) / author_moments_name(data_name(options.data))
        write_moments(out, found.moments)
        logger.info("moments: %s", out)


def prepare_inception(options: InceptionOptions) -> None:
    """Put checked Inception weights where ``--features inception`` looks for them."""
    folder = Path(options.cache_dir) if options.cache_dir else default_cache_dir()
    target = folder / SOURCES[options.variant].url.split("/")[-1]
    if options.file and not target.is_file():
        checked = inception_file(options.variant, options.file)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checked, target.with_suffix(".tmp"))
        target.with_suffix(".tmp").rename(target)
    path = inception_file(options.variant, fetch=True, cache_dir=folder)
    load_inception(options.variant, path)
    logger.info("Inception weights: %s", path)


def prepare_lpips(options: LpipsOptions) -> None:
    """Put the files of LPIPS where path lengths and projection look for them."""
    for url, sha256 in LPIPS_FILES.items():
        logger.info("%s", download(url, cached_file(url), sha256=sha256))
    load_lpips()


_VERBS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "cifar10": (CifarOptions, lambda options: prepare_cifar("cifar10", options)),
    "cifar100": (CifarOptions, lambda options: prepare_cifar("cifar100", options)),
    "imagenet": (ImagenetOptions, prepare_imagenet),
    "folder": (FolderOptions, prepare_folder),
    "hdf5": (Hdf5Options, prepare_hdf5),
    "toy": (ToyOptions, prepare_toy),
    "mnist": (DigitsOptions, lambda options: prepare_digits("mnist", options)),
    "svhn": (DigitsOptions, lambda options: prepare_digits("svhn", options)),
    "tfrecords": (TfrecordsOptions, prepare_tfrecords),
    "display": (DisplayOptions, prepare_display),
    "extract": (ExtractOptions, prepare_extract),
    "compare": (CompareOptions, prepare_compare),
    "moments": (MomentsOptions, prepare_moments),
    "inception": (InceptionOptions, prepare_inception),
    "lpips": (LpipsOptions, prepare_lpips),
    **UNPAIRED_VERBS,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``fqgan prepare cifar10 --data-dir data/cifar``."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in {"-h", "--help"}:
        alike: dict[type, list[str]] = {}
        for verb, (kind, _) in _VERBS.items():
            alike.setdefault(kind, []).append(verb)
        print("usage: fqgan prepare WHAT ...\n")
        for kind, verbs in alike.items():
            names = textwrap.fill(", ".join(verbs), initial_indent="  ", subsequent_indent="  ")
            print(f"{names}\n      {kind.__doc__}")
        return
    if words[0] not in _VERBS:
        raise ValueError(f"prepare {words[0]!r} is not known; choose one of {', '.join(_VERBS)}")
    kind, function = _VERBS[words[0]]
    function(parse(kind, words[1:], f"fqgan prepare {words[0]}"))


def _made_before(out: str, source: dict[str, Any]) -> bool:
    note = Path(f"{out}.json")
    if not Path(out).exists():
        return False
    same = note.is_file() and note.read_text() == json.dumps(source, indent=2)
    if not same:
        raise ValueError(f"--out {out} exists and was made otherwise; delete it or choose a name")
    _describe(read_hdf5(out))
    return True


def _remember(out: str, source: dict[str, Any]) -> None:
    write_atomically(f"{out}.json", json.dumps(source, indent=2))
    _describe(read_hdf5(out))


def _describe(images: Images) -> None:
    size, classes = images.resolution, len(images.class_names)
    logger.info("%s: %d images of %d pixels, %d classes", images.name, len(images), size, classes)
