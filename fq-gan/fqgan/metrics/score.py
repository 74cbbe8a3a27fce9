"""``fqgan score A B``: two sets of images, runs or statistics files compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import tyro
from torch import Tensor

from ..config import VERBS, call
from ..data.sets import open_set
from ..runs import WeightOptions, is_weights, kind_of
from ..runtime import distributed
from ..runtime.command import parse
from ..runtime.evaluation import Provenance, versions, write_evaluation
from ..runtime.options import at_least
from ..runtime.run_folder import CONFIG
from ..scoring import PUBLISHED_IMAGES, print_evaluation, too_few
from .distances import extrapolated_distance
from .features import FeatureExtractor, FeatureName, build_extractor
from .statistics import (
    LAYOUTS,
    Statistics,
    array_names,
    collect,
    compare,
    read_any_statistics,
    warn_of_bias,
    write_statistics,
)

NEIGHBOURS = 5
"""Of density and coverage; every set needs more images than that."""


@dataclass(frozen=True)
class ScoreConfig:
    """Score the images of B against those of A; both are any of:

    a folder of images, a zip or tar archive or a folder of them, an HDF5 file, an .npz of samples,
    TFRecords, SOURCE:PATH of a data set (cifar10:data/cifar), a run or folder of weights (its
    samples), a file of statistics (ours, clean-fid's, pytorch-fid's).
    """

    a: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="A")]
    """The reference, such as the real images."""
    b: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="B")] = ""
    """The images that are judged; may be absent where --save is given."""
    features: FeatureName = "inception"
    """What images are compared by; inception, -clean and -pytorch-fid differ in how they resize."""
    weights: str = ""
    """File of the Inception, VGG or SqueezeNet weights; folder of dinov2 or clip."""
    download: bool = False
    """Download the Inception weights where no file is given and none is in the cache."""
    cache_dir: str = ""
    """Where weights and lists of files are kept; empty: $FQGAN_CACHE, ~/.cache/fqgan."""
    num_images: int = 0
    """Images of each set, a fixed random choice; 0: all, and of a run as many as its own scores."""
    resolution: int = 0
    """Cut image files square and resize them to so many pixels first; 0: as they are."""
    infinity: bool = False
    """Also FID_infinity, the FID extrapolated to infinitely many images of B."""
    splits: int = 10
    """Of the Inception score of B."""
    subsets: int = 100
    """Random subsets that KID is averaged over."""
    subset_size: int = 1000
    """Images of each kind in a subset."""
    max_features: int = 10_000
    """Images of each set behind KID, precision, recall, density, coverage and FID_infinity."""
    best: bool = False
    """Of a run: the weights with the best score instead of the newest."""
    step: int | None = None
    """Of a run: the checkpoint of this step (of StyleGAN2: image)."""
    seed: int = 0
    """Of a run's noise and labels."""
    batch_size: int = 64
    """Images in one pass; of a run that of its own scores."""
    workers: int = 4
    """Threads that decode image files."""
    save: str = ""
    """Write the statistics of A to this .npz, which stands for A afterwards, also elsewhere."""
    out: str = ""
    """Write the scores and all they depend on to this JSON file."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        at_least(self, num_images=0, resolution=0, splits=1, subsets=1, subset_size=2)
        at_least(self, max_features=6, batch_size=1, workers=1)
        if not self.a:
            raise ValueError("A, the reference, is empty: give a set of images")
        if self.out and Path(self.out).is_dir():
            raise ValueError(f"--out {self.out} is a folder; name a file")
        written = (("--out", self.out, self.a), ("--out", self.out, self.b))
        for name, path, read in (*written, ("--save", self.save, self.b)):
            if path and read and Path(path).resolve() == Path(read).resolve():
                raise ValueError(f"{name} {path} is a set that is read; give another name")
        if not (self.b or self.save):
            raise ValueError("there is nothing to compare with: give two sets, or one and --save")
        if self.save and not self.save.endswith(".npz"):
            raise ValueError(f"--save {self.save} must end with .npz")
        if Path(self.save).is_file() and not is_statistics(self.save):
            raise ValueError(
                f"--save {self.save} exists and holds no statistics, which would be lost; give "
                "another name"
            )


def main(argv: Sequence[str]) -> None:
    """Run ``fqgan score photos samples --features squeezenet --weights weights/squeezenet``."""
    print_evaluation(score(parse(ScoreConfig, argv, "fqgan score")))


class Side(NamedTuple):
    """One of the two sets, opened: what it is, and how its statistics are made."""

    about: dict[str, Any]
    statistics: Statistics | Callable[[FeatureExtractor], Statistics]


def score(config: ScoreConfig) -> dict[str, Any]:
    """Score what ``config`` names; writes what it asks for.

    Returns:
        The scores of `compare`, ``fid_bias`` and ``fid_infinity`` where they apply, and what they
        depend on; of one set alone only the latter.

    Raises:
        FileNotFoundError, ValueError: a set or the weights of the features are missing or wrong.
    """
    with distributed.start(config.device, seed=config.seed) as world:
        device = world.device
        paths = [path for path in (config.a, config.b) if path]
        # What is missing or wrong is said before anything is computed, and of the sets first.
        sides = [open_side(path, config, device) for path in paths]
        for side in sides if config.b else ():
            require_enough(side)
        extractor, found = None, []
        for side in sides:
            if isinstance(side.statistics, Statistics):
                found.append(side.statistics)
                continue
            extractor = extractor or build_extractor(
                config.features, weights=config.weights, fetch=config.download,
                cache_dir=config.cache_dir or None, device=device,
            )  # fmt: skip
            found.append(side.statistics(extractor))
        settings: dict[str, Any] = {
            name: side.about for name, side in zip("ab", sides, strict=False)
        }
        if extractor is not None:
            settings |= {"features": extractor.name, "protocol": extractor.protocol}
        scores: dict[str, Any] = {}
        if config.save and world.is_main:
            write_statistics(config.save, found[0])
        if config.b:
            scores = compare_sides(config, found[0], found[1], device)
            numbers = [one.moments.num_images for one in found]
            enough = numbers[1] >= PUBLISHED_IMAGES
            settings["comparable"] = (
                extractor is not None
                and extractor.comparable
                and enough
                and not too_few(extractor, *numbers)
            )
            names = ("resolution", "splits", "subsets", "subset_size", "max_features")
            settings |= {name: getattr(config, name) for name in names}
        if config.out and world.is_main:
            about = Provenance(
                "score", config.a, found[-1].moments.num_images, seed=config.seed,
                settings=settings,
            )  # fmt: skip
            write_evaluation(config.out, scores, about)
        return {**scores, **settings, **versions()}


def compare_sides(
    config: ScoreConfig, real: Statistics, fake: Statistics, device: torch.device
) -> dict[str, Any]:
    """The scores of ``fake`` against ``real``, with what is to be said about their numbers."""
    subset = min(config.subset_size, *(len(one.features) or 2 for one in (real, fake)))
    scores: dict[str, Any] = compare(
        real, fake, splits=min(config.splits, max(1, fake.moments.num_images // 2)),
        subset_size=subset, subsets=config.subsets, device=device,
    )  # fmt: skip
    bias = warn_of_bias(real, fake, names=(config.a, config.b), device=device)
    if bias is not None:
        scores["fid_bias"] = bias
    if config.infinity:
        if not len(fake.features):
            raise ValueError(
                f"--infinity needs images behind {config.b}, whose statistics are moments alone"
            )
        found = extrapolated_distance(real.moments, fake.features, device=device)
        scores |= {"fid_infinity": found.value, "fid_infinity_error": found.error}
    return scores


def require_enough(side: Side) -> None:
    """Refuse images too few for the neighbours of density and coverage."""
    number, path = side.about["images"], side.about["path"]
    if side.about["kind"] != "statistics" and number <= NEIGHBOURS:
        raise ValueError(
            f"{path} has {number} images to be scored; {NEIGHBOURS + 1} or more are needed"
        )


def is_statistics(path: str) -> bool:
    """Whether ``path`` is a file of statistics of ours, of clean-fid or of pytorch-fid."""
    if not (path.endswith(".npz") and Path(path).is_file()):
        return False
    names = array_names(path)
    return any(layout <= names for layout in LAYOUTS)


def open_side(path: str, config: ScoreConfig, device: torch.device) -> Side:
    """Open one set, whatever it is."""
    if is_statistics(path):
        found = read_any_statistics(path)
        known = found.moments.num_images
        about = {"path": path, "kind": "statistics", "images": known or None}
        return Side(about, found)
    if (Path(path) / CONFIG).is_file():
        return _of_run(path, config, device)
    images = open_set(
        path, resolution=config.resolution, limit=config.num_images, workers=config.workers,
        device=device,
    )  # fmt: skip
    size, most = config.batch_size, config.max_features
    return Side(
        {"path": path, "kind": images.kind, "images": images.number},
        lambda extractor: collect(
            extractor, images.batches(size), images.number, max_features=most
        ),
    )


def _of_run(path: str, config: ScoreConfig, device: torch.device) -> Side:
    kind = kind_of(path)
    opening = VERBS[kind].open_samples if kind in VERBS else ""
    if not opening:
        raise ValueError(
            f"{path} is of kind {kind!r}, which draws no images from noise; write pictures "
            "with fqgan translate and score that folder, or use fqgan evaluate"
        )
    chosen: dict[str, Any] = {"run_dir": path, "best": config.best, "step": config.step}
    options = WeightOptions(**({"weights": path} if is_weights(path) else chosen))
    samples = call(opening, options, seed=config.seed, device=device)
    number = config.num_images or samples.number

    def batches() -> Iterator[Tensor]:
        share = -(-number // distributed.world_size())
        for _ in range(0, share, samples.batch_size):
            yield samples.draw(samples.batch_size)

    return Side(
        {"path": path, "kind": kind, "images": number, "seed": config.seed, **samples.settings},
        lambda extractor: collect(extractor, batches(), number, max_features=config.max_features),
    )
