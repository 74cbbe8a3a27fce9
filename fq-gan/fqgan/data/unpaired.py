"""Two domains without pairs: trainA, trainB, testA, testB, as U-GAT-IT reads them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from ..checks import at_least
from ..metrics.resize import resize_like_tf1
from .batches import Batches, some
from .images import EncodedImages, Images, Subset, in_memory, is_image_name
from .toy import toy_domain

logger = logging.getLogger(__name__)

Split = Literal["train", "test"]
Resize = Literal["legacy", "modern"]


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
        at_least(self, "data", resolution=16, workers=1, toy_images=100, limit=0, enlarge=-1)

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
        images = Subset(images, some(len(images), config.limit))
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
    # A telephone's picture may say only in its header that it lies on its side.
    upright = ImageOps.exif_transpose(image)
    return torch.from_numpy(np.array(upright, dtype=np.float32)).permute(2, 0, 1)[None]
