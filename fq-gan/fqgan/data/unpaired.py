"""Two domains of images for translation: options, reading, batches, preparation."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..metrics.networks import resize_like_tf1
from ..runtime.download import download, extract
from ..runtime.options import at_least, option
from .batches import Batches, fixed_choice
from .datasets import check_path
from .images import (
    EncodedImages,
    Images,
    Subset,
    UnreadableImagesError,
    decode_all,
    in_memory,
    is_image_name,
)
from .toy import toy_domain

logger = logging.getLogger(__name__)

Split = Literal["train", "test"]
Resize = Literal["legacy", "modern"]

FIXED = (
    *("data.source", "data.path", "data.resolution", "data.resize", "data.augment"),
    *("data.enlarge", "data.toy_images", "data.limit"),
)
"""Options that say which images a run learns from, in which form."""


@dataclass(frozen=True)
class UnpairedConfig:
    """The two domains of a translation run."""

    source: Literal["folders", "toy"] = "folders"
    """Folders of images, or shapes drawn by code: A filled on dull ground, B inked on paper."""
    path: str = "data/selfie2anime"
    """Folder that holds trainA, trainB, testA and testB."""
    resolution: int = 256
    """Width and height in pixels; images are stretched to it."""
    resize: Resize = "legacy"
    """legacy: as the authors, TF 1 bilinear in training, OpenCV at tests; modern: antialiased."""
    augment: bool = True
    """Half of the training images: mirror at random, enlarge, cut back at random."""
    enlarge: int = -1
    """Pixels of that enlargement; -1: as the authors, 30 at 256 pixels, else 15."""
    in_memory: bool = False
    """Decode everything once and keep it."""
    workers: int = 4
    """Threads that decode image files."""
    limit: int = 0
    """Use a fixed random choice of so many images of each folder; 0 takes all."""
    toy_images: int = 500
    """Number of toy images of each domain; a tenth of it for tests."""

    def __post_init__(self) -> None:
        check_path(self.source, self.path, UnpairedConfig.path)
        at_least(self, "data", resolution=16, workers=1, toy_images=100, limit=0, enlarge=-1)

    def unused(self) -> dict[str, str]:
        """Options that this source does not read, see `unused_options`."""
        if self.source == "toy":
            reason = "--data.source toy draws images that fit, and none are read; drop it"
            names = ["resize", "workers", "in_memory", "limit"]
        else:
            reason, names = "it is for --data.source toy, got folders; drop it", ["toy_images"]
        unused = {option(name, "data"): reason for name in names}
        if not self.augment:
            unused["--data.enlarge"] = "--data.no-augment enlarges nothing; drop one of them"
        return unused

    @property
    def enlargement(self) -> int:
        """Pixels by which augmentation enlarges."""
        if self.enlarge >= 0:
            return self.enlarge
        return 30 if self.resolution == 256 else 15


class Domains(NamedTuple):
    a: Images
    b: Images


class UnpairedBatch(NamedTuple):
    a: Tensor  # (B, 3, R, R), float32 in [-1, 1], on the device
    b: Tensor  # (B, 3, R, R)


class UnpairedBatches:
    """Endless iterator of `UnpairedBatch`; the two domains are shuffled on their own.

    Args:
        domains: what to read.
        batch_size: B, of one ``next`` on one rank.
        seed: of the order and of the augmentation.
        device: where batches go.
        enlarge: augment and enlarge by so many pixels (see `Batches`); None does not augment.
    """

    def __init__(
        self,
        domains: Domains,
        batch_size: int,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        enlarge: int | None = None,
    ) -> None:
        options: dict[str, Any] = {"augment": enlarge is not None, "enlarge": enlarge or 0}
        self.domains = {
            # Equal seeds would pair the images of domains of one size.
            name: Batches(images, batch_size, seed=2 * seed + place, device=device, **options)
            for place, (name, images) in enumerate(domains._asdict().items())
        }

    @property
    def images_seen(self) -> int:
        """Images of one domain handed out so far, all ranks together."""
        return self.domains["a"].images_seen

    def __iter__(self) -> Iterator[UnpairedBatch]:
        return self

    def __next__(self) -> UnpairedBatch:
        return UnpairedBatch(*(next(batches).images for batches in self.domains.values()))

    def state_dict(self) -> dict[str, Any]:
        return {name: batches.state_dict() for name, batches in self.domains.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the batch that followed the one last handed out before saving."""
        for name, batches in self.domains.items():
            batches.load_state_dict(state[name])

    def close(self) -> None:
        """Forget what was read ahead and stop the threads."""
        for batches in self.domains.values():
            batches.close()


def build_domains(config: UnpairedConfig, split: Split, *, seed: int = 0) -> Domains:
    """Open both domains; ``seed`` draws the toy images.

    Raises:
        FileNotFoundError, ValueError: a folder is missing or empty.
    """
    if config.source == "toy":
        count = config.toy_images if split == "train" else config.toy_images // 10
        seed = 4 * seed + (2 if split == "test" else 0)
        size = config.resolution
        return Domains(
            toy_domain(count, "filled", seed=seed, resolution=size),
            toy_domain(count, "inked", seed=seed + 1, resolution=size),
        )
    _check_folders(config.path, split)
    return Domains(*(_open(config, split, domain) for domain in "AB"))


def build_unpaired_batches(
    config: UnpairedConfig,
    domains: Domains,
    batch_size: int,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> UnpairedBatches:
    """Endless training batches of ``domains``, opened by `build_domains` for training."""
    enlarge = config.enlargement if config.augment else None
    return UnpairedBatches(domains, batch_size, seed=seed, device=device, enlarge=enlarge)


def _check_folders(path: str | Path, split: Split) -> None:
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(
            f"--data.path {root} is not a folder; it must hold trainA, trainB, testA and testB"
        )
    for name in (f"{split}A", f"{split}B"):
        if not (root / name).is_dir():
            there = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir())[:8])
            raise FileNotFoundError(
                f"--data.path {root} has no folder {name} (it has {there or 'none'}); "
                "the folders must be called trainA, trainB, testA and testB"
            )


def _open(config: UnpairedConfig, split: Split, domain: str) -> Images:
    folder = Path(config.path) / f"{split}{domain}"
    entries, others = list_images(folder)
    if not entries:
        raise ValueError(f"{folder} holds no image; put the images of domain {domain} there")
    if others:
        logger.warning("%s: %d files are no images and are passed over", folder, others)
    images: Images = EncodedImages(
        entries,
        torch.zeros(len(entries), dtype=torch.int64),
        [domain],
        str(folder),
        resolution=config.resolution,
        load=lambda entry: (folder / entry).open("rb"),
        workers=config.workers,
        fit=FITS[config.resize, split],
    )
    if 0 < config.limit < len(images):
        images = Subset(images, fixed_choice(len(images), config.limit))
    return in_memory(images) if config.in_memory else images


def list_images(folder: Path) -> tuple[list[str], int]:
    """Names of the image files of ``folder`` in order, and the number of other files."""
    files = sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    entries = [name for name in files if is_image_name(name)]
    return entries, len(files) - len(entries)


def fit_as_trained(image: Image.Image, resolution: int, offset: float = 0.5) -> np.ndarray:
    """Stretch as TensorFlow 1 did in training: (R, R, 3), float32 levels 0..255."""
    levels = resize_like_tf1(_levels(image), resolution, resolution)
    return levels[0].permute(1, 2, 0).numpy()


def fit_as_tested(image: Image.Image, resolution: int, offset: float = 0.5) -> np.ndarray:
    """Stretch as OpenCV does at tests, between pixel centres and without smoothing."""
    size = (resolution, resolution)
    levels = F.interpolate(_levels(image), size, mode="bilinear", align_corners=False)
    return levels[0].permute(1, 2, 0).numpy()


def fit_antialiased(image: Image.Image, resolution: int, offset: float = 0.5) -> np.ndarray:
    """Stretch with a bilinear filter as wide as the reduction, so that nothing is skipped."""
    size = (resolution, resolution)
    levels = F.interpolate(_levels(image), size, mode="bilinear", antialias=True)
    return levels[0].permute(1, 2, 0).numpy()


Fit = Callable[[Image.Image, int, float], np.ndarray]
FITS: dict[tuple[Resize, Split], Fit] = {
    ("legacy", "train"): fit_as_trained,
    ("legacy", "test"): fit_as_tested,
    ("modern", "train"): fit_antialiased,
    ("modern", "test"): fit_antialiased,
}


def _levels(image: Image.Image) -> Tensor:
    """An upright RGB image as float32 levels (1, 3, H, W)."""
    return torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)[None]


SPLITS: tuple[Split, ...] = ("train", "test")
FOLDERS = ("trainA", "trainB", "testA", "testB")


class UnpairedSet(NamedTuple):
    """Where a data set is; images in `FOLDERS`, () where no count is published for them."""

    url: str
    mirrors: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    sha256: str | None = None  # of the archive, where it is published


def _cyclegan(name: str, sha256: str, *counts: int) -> UnpairedSet:
    mirror = f"http://efrosgans.eecs.berkeley.edu/cyclegan/datasets/{name}.zip"
    url = f"https://people.eecs.berkeley.edu/~taesung_park/CycleGAN/datasets/{name}.zip"
    return UnpairedSet(url, (mirror,), counts, sha256)


# The other sets of the same host, which the authors' script fetches too.
OTHER_CYCLEGAN_SETS = {
    "apple2orange": "845a191e9af8926408ea597001cd03a452e3300a1f44a79fe329b3d59f6e3eb8",
    "cezanne2photo": "3a6c10ca21f9485862f1cbd707744b9dc258954a04631271d23a3605eeb63cff",
    "cityscapes": "d2f6910fd056c1ee9873777ae838e7ac4a2c833598ae62a04188e5ab2f4ea036",
    "facades": "9a31ebf3a31b9b5cd195dd5bf62e9308e00cb94604d1019e3889ac84248695c0",
    "iphone2dslr_flower": "8fcb5e374d631b107e1d961b8c4cd0a186aa2a4ff3e279923f4c426128de7113",
    "maps": "639534f69dbf9f36bef8d6292a7698006361221f83f0285d7c9ca78afe6e8a9e",
    "monet2photo": "88f91b00fc228f97c9411fbf1880ec1d119c98f1722e4cfcfaa2fb35fac05b04",
    "summer2winter_yosemite": "167fe1726807a9d22bd106b4a6c0bd7953b688af924ac1bf967439c4961e49f9",
    "ukiyoe2photo": "02a2a2fb5ecf425ca1bf86aca7304377da64a2a1d3b86df54eb65e4068bf3b08",
}
SETS: dict[str, UnpairedSet] = {
    "selfie2anime": UnpairedSet(
        "https://drive.usercontent.google.com/download?id=1xOWj1UVgp6NKMT3HbPhBbtq2A4EDkghF"
        "&export=download&confirm=t",
        counts=(3400, 3400, 100, 100),
    ),
    "horse2zebra": _cyclegan(
        "horse2zebra",
        "a74d9d392eecca9966b51287a76ca126af473d9de4f3e8fc0e9cda08fa1730a1",
        *(1067, 1334, 120, 140),
    ),
    "vangogh2photo": _cyclegan(
        "vangogh2photo",
        "362c3473e70be0944bda08d49d660eafdc2854df55d697835b8186d1d79caaff",
        *(400, 6287, 400, 751),
    ),
    "cat2dog": UnpairedSet("http://vllab.ucmerced.edu/hylee/DRIT/datasets/cat2dog.zip"),
    "portrait": UnpairedSet("http://vllab.ucmerced.edu/hylee/DRIT/datasets/portrait.zip"),
    **{name: _cyclegan(name, sha256) for name, sha256 in OTHER_CYCLEGAN_SETS.items()},
}


@dataclass(frozen=True)
class UnpairedSetOptions:
    """Fetch and unpack an unpaired data set; every image is decoded once."""

    data_dir: str = ""
    """Folder that receives trainA, trainB, testA and testB; empty: data/ and the name."""
    archive: str = ""
    """An archive that is here already, instead of a download."""
    workers: int = 4
    """Threads that decode."""


@dataclass(frozen=True)
class UnpairedFolderOptions:
    """Check a folder of trainA, trainB, testA, testB: every image is decoded once."""

    path: str
    """The folder."""
    workers: int = 4
    """Threads that decode."""


@dataclass(frozen=True)
class ToyDomainsOptions:
    """Write the toy pair of domains as PNG files: shapes filled on dull ground, inked on paper."""

    out: str = "data/toy-domains"
    """The new folder."""
    toy_images: int = 500
    """Training images of each domain; a tenth of it for tests."""
    resolution: int = 64
    """Their width and height."""
    seed: int = 0
    """Of the drawing."""


def prepare_unpaired_set(name: str, options: UnpairedSetOptions) -> None:
    """Make ``data_dir`` hold the four folders of the data set ``name``.

    Raises:
        OSError, ValueError: it cannot be fetched, or is damaged; the sentence has the way by hand.
    """
    chosen, root = SETS[name], Path(options.data_dir or f"data/{name}")
    if not all((root / folder).is_dir() for folder in FOLDERS):
        archive = Path(options.archive) if options.archive else root.with_name(f"{name}.zip")
        if options.archive and not archive.is_file():
            raise FileNotFoundError(f"--archive {archive} does not exist")
        if not options.archive:
            try:
                download(chosen.url, archive, sha256=chosen.sha256, mirrors=chosen.mirrors)
            except OSError as error:
                raise OSError(f"{error}, or name it with --archive") from error
        unpack_domains(archive, root)
    counts = check_domains(root, options.workers)
    if chosen.counts and counts != chosen.counts:
        logger.warning(
            "%s has %s images in %s; %s are published",
            root, counts, ", ".join(FOLDERS), chosen.counts,
        )  # fmt: skip


def unpack_domains(archive: Path, root: Path) -> None:
    """Unpack ``archive`` and move its four folders, wherever they are in it, into ``root``.

    Raises:
        ValueError: it has no such folders, or is refused (see `extract`).
    """
    scratch = root.with_name(f".{root.name}.unpacked")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        extract(archive, scratch)
        places = sorted(path.parent for path in scratch.rglob("trainA") if path.is_dir())
        places = [place for place in places if "__MACOSX" not in place.parts]
        lacking = [name for name in FOLDERS if not places or not (places[0] / name).is_dir()]
        if lacking:
            raise ValueError(
                f"{archive} has no folder {lacking[0]}; an archive of trainA, trainB, testA and "
                "testB is needed"
            )
        root.mkdir(parents=True, exist_ok=True)
        for name in FOLDERS:
            shutil.rmtree(root / name, ignore_errors=True)
            os.replace(places[0] / name, root / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_domains(root: str | Path, workers: int = 4) -> tuple[int, ...]:
    """Decode every image below ``root``; returns the numbers of images in `FOLDERS`.

    Raises:
        FileNotFoundError, ValueError: a folder is missing or empty, a file cannot be read.
    """
    config = UnpairedConfig(path=str(root), resolution=16, workers=workers)
    counts, errors = [], []
    for images in (*build_domains(config, "train"), *build_domains(config, "test")):
        try:
            decode_all(images)
        except UnreadableImagesError as error:
            errors.append((Path(images.name).name, error))
        logger.info("%s: %d images", images.name, len(images))
        counts.append(len(images))
    if len(errors) == 1:
        raise errors[0][1]
    if errors:
        found = [
            (f"{name}/{entry}", why) for name, error in errors for entry, why in error.failures
        ]
        raise UnreadableImagesError(str(root), found)
    return tuple(counts)


def prepare_unpaired_folder(options: UnpairedFolderOptions) -> None:
    """Decode every image of a folder of the user's own."""
    check_domains(options.path, options.workers)


def prepare_toy_domains(options: ToyDomainsOptions) -> None:
    """Draw and write the toy pair; files that are there already are written again alike."""
    config = UnpairedConfig("toy", resolution=options.resolution, toy_images=options.toy_images)
    for split in SPLITS:
        for domain, images in zip(
            "AB", build_domains(config, split, seed=options.seed), strict=True
        ):
            folder = Path(options.out) / f"{split}{domain}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = images.read(torch.arange(len(images)))
            for number, levels in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
                Image.fromarray(levels).save(folder / f"{number:05d}.png")
            logger.info("%s: %d images", folder, len(images))


def _verb(name: str) -> Callable[[Any], None]:
    return lambda options: prepare_unpaired_set(name, options)


VERBS: dict[str, tuple[type, Callable[[Any], None]]] = {
    **{name: (UnpairedSetOptions, _verb(name)) for name in SETS},
    "unpaired": (UnpairedFolderOptions, prepare_unpaired_folder),
    "toy-domains": (ToyDomainsOptions, prepare_toy_domains),
}
"""Verbs of ``fqgan prepare``: options and function."""
