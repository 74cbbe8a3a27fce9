"""``fqgan prepare``: fetch, check and convert data; running it again changes nothing."""

from __future__ import annotations

import logging
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from PIL import Image

from ..metrics.distances import author_moments_name, inception_score, write_moments
from ..metrics.features import SOURCES, FeatureName, build_extractor, inception_file, load_inception
from ..metrics.latent_space import FILES as LPIPS_FILES, load_lpips
from ..metrics.networks import Variant, cached_file, default_cache_dir
from ..metrics.statistics import collect, write_statistics
from ..runtime.command import choose, parse
from ..runtime.distributed import choose_device
from ..runtime.download import download, extract, verify
from ..runtime.files import json_text, why, write_atomically
from ..scoring import statistics_path, too_few
from .batches import one_pass
from .datasets import DataConfig, build_images, data_name
from .folders import read_folder
from .hdf5 import read_hdf5, write_hdf5
from .images import Images, UnreadableImagesError, decode_all
from .small_images import ARCHIVES, FILES, read_cifar, read_mnist, read_svhn
from .tfrecords import TfrecordImages, level_files, read_tfrecords, shuffled_order, write_tfrecords
from .toy import toy_images
from .unpaired import VERBS as UNPAIRED_VERBS

logger = logging.getLogger(__name__)

NOTE = "prepared.json"


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
        prefix="--",
    )
    decode_all(images)
    _describe(images)


def prepare_hdf5(options: Hdf5Options) -> None:
    """Convert, unless the file is there and was made with the same options."""
    source = {key: value for key, value in asdict(options).items() if key != "out"}
    if _made_before(options.out, source):
        return
    images = build_images(options.data)
    try:
        write_hdf5(
            images,
            options.out,
            chunk_size=options.chunk_size,
            compression="lzf" if options.compression == "lzf" else None,
            truncate=options.legacy_truncation,
        )
    except UnreadableImagesError:
        decode_all(images)  # names all of them
        raise
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
    passes = one_pass(images, options.batch_size, device=device, limit=options.num_images)
    total = min(options.num_images, len(images)) or len(images)
    found = collect(extractor, (batch.images for batch in passes), total)
    path = statistics_path(images, extractor, options.num_images, cache_dir)
    write_statistics(path, found._replace(logits=None))
    logger.info("statistics of %d images: %s", found.moments.num_images, path)
    if few := too_few(extractor, found.moments.num_images):
        logger.warning("%s", few)
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
    source = json_text({k: v for k, v in asdict(options).items() if k != "out"}, indent=2)
    if note.is_file() and note.read_text() == source:
        _describe(read_tfrecords(options.out))
        return
    images = build_images(options.data)
    order = shuffled_order(len(images)) if options.shuffle else np.arange(len(images))
    try:
        write_tfrecords(
            images,
            options.out,
            order=order[: options.num_images or None],
            labels=options.labels and has_labels(images),
            grey=options.grey,
        )
    except UnreadableImagesError:
        decode_all(images)  # names all of them
        raise
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
        name_of_file = file.url.split("/")[-1]
        if not (folder / name_of_file).is_file():
            mirrors = [file.mirror + name_of_file] if file.mirror else []
            download(file.url, folder / name_of_file, md5=file.md5, mirrors=mirrors)
    read = read_mnist if name == "mnist" else read_svhn
    for split in ("train", "test"):
        _describe(read(folder, split))


def _picture(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


_CLASS = re.compile(r"(n\d{8})\.tar")
_IMAGE = re.compile(r"n\d{8}_\d+\.JPEG")


def unpack_imagenet(archive: str | Path, folder: str | Path) -> int:
    """Unpack ``ILSVRC2012_img_train.tar`` into ``folder/CLASS/IMAGE.JPEG``; returns the classes.

    A class that is there is passed over, and a class appears whole or not at all, so an
    interrupted run goes on when started again. Members of any other name are refused.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    classes = 0
    try:
        with tarfile.open(archive) as outer:
            for member in outer:
                found = _CLASS.fullmatch(member.name)
                content = outer.extractfile(member) if found and member.isfile() else None
                if found is None or content is None:
                    raise ValueError(
                        f"{archive} holds {member.name!r}; give ILSVRC2012_img_train.tar"
                    )
                if not (folder / found[1]).exists():
                    _unpack_class(content, folder / found[1])
                    logger.info("%s", found[1])
                classes += 1
    except tarfile.TarError as error:
        raise ValueError(f"{archive} is not a whole tar archive ({why(error)})") from error
    return classes


def _unpack_class(content: IO[bytes], target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    with tarfile.open(fileobj=content) as inner:
        for member in inner:
            image = inner.extractfile(member) if member.isfile() else None
            if image is None or not _IMAGE.fullmatch(member.name):
                raise ValueError(f"{target.name}.tar holds {member.name!r}, which is no image")
            with (partial / member.name).open("wb") as file:
                shutil.copyfileobj(image, file)
    partial.rename(target)


def _made_before(out: str, source: dict[str, Any]) -> bool:
    note = Path(f"{out}.json")
    if not Path(out).exists():
        return False
    same = note.is_file() and note.read_text() == json_text(source, indent=2)
    if not same:
        raise ValueError(
            f"--out {out} exists and was made otherwise; move it away or choose a name"
        )
    _describe(read_hdf5(out))
    return True


def _remember(out: str, source: dict[str, Any]) -> None:
    write_atomically(f"{out}.json", json_text(source, indent=2))
    _describe(read_hdf5(out))


def _describe(images: Images) -> None:
    size, classes = images.resolution, len(images.class_names)
    logger.info("%s: %d images of %d pixels, %d classes", images.name, len(images), size, classes)


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
    texts = {name: (kind.__doc__ or "").partition("\n")[0] for name, (kind, _) in _VERBS.items()}
    about = "Fetch, check or convert images, or the weights that scores need."
    name, words = choose(texts, words, "fqgan prepare", "name", about)
    kind, function = _VERBS[name]
    function(parse(kind, words, f"fqgan prepare {name}"))
