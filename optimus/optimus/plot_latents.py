"""``optimus plot-latents``: latents or features in the plane, coloured by label."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from .data.labeled import read_labeled
from .loop_options import require
from .plots import distance_matrix, draw_distances, draw_points, embed, write_page
from .runtime.command import parse
from .runtime.distributed import choose_device
from .sentence_vae import SentenceVAE

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlotConfig:
    """Draw features that a command wrote, or the latents of labelled text."""

    features: Path | None = None
    """features.npz of `optimus train-classifier` or latents.npz of `optimus evaluate-dialog`."""
    model: Path | None = None
    """Folder of a model, to encode --text with."""
    text: Path | None = None
    """Labelled text: NAME.text with NAME.labels, a file of `label TAB text`, or a stem."""
    methods: tuple[Literal["tsne", "mds", "isomap", "distance"], ...] = ("tsne",)
    """What to draw; distance is the matrix of all distances."""
    limit: int = 2000
    """At most so many vectors, drawn at random."""
    output_dir: Path = Path("runs/plots")
    """Where METHOD.png and METHOD.html go."""
    seed: int = 0
    """Seed of the choice and of the methods."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to encode."""

    def __post_init__(self) -> None:
        require(
            (self.features is None) != (self.model is None or self.text is None),
            "give either --features, or --model and --text",
        )
        require(self.limit >= 5, f"--limit must be at least 5, got {self.limit}")


class Points(NamedTuple):
    """N vectors to draw."""

    features: np.ndarray  # (N, D)
    labels: np.ndarray  # (N,) class numbers
    names: tuple[str, ...]
    texts: tuple[str, ...] | None


def main(argv: Sequence[str]) -> None:
    """Run ``optimus plot-latents --features runs/x/features.npz --methods tsne mds``."""
    plot(parse(PlotConfig, argv, "optimus plot-latents"))


def plot(config: PlotConfig) -> list[Path]:
    """Draw every method; returns the files."""
    points = _thin(config, read_points(config))
    config.output_dir.mkdir(parents=True, exist_ok=True)
    files = []
    for method in config.methods:
        picture = config.output_dir / f"{method}.png"
        files.append(picture)
        if method == "distance":
            draw_distances(distance_matrix(points.features), picture, "distances")
            continue
        placed = embed(points.features, method, config.seed)
        draw_points(placed, points.labels, points.names, picture, method)
        page = picture.with_suffix(".html")
        write_page(placed, points.labels, points.names, page, texts=points.texts, title=method)
        files.append(page)
    logger.info("wrote %s", ", ".join(map(str, files)))
    return files


def read_points(config: PlotConfig) -> Points:
    """The vectors that ``config`` names.

    Raises:
        FileNotFoundError: a file or model is missing.
        ValueError: the file of features has no class numbers.
    """
    if config.features is not None:
        if not config.features.is_file():
            raise FileNotFoundError(f"--features {config.features} does not exist")
        classes, vectors, known = _read_features(config.features)
        if not np.issubdtype(classes.dtype, np.integer):
            raise ValueError(f"{config.features} is of a regression and has no classes to colour")
        return Points(vectors, classes, known, None)
    assert config.model is not None
    assert config.text is not None
    labels, texts = read_labeled(config.text)
    rows = [(label, text) for label, text in zip(labels, texts, strict=True) if text.strip()]
    generator = np.random.default_rng(config.seed)
    if len(rows) > config.limit:
        rows = [rows[i] for i in sorted(generator.choice(len(rows), config.limit, replace=False))]
    names = tuple(sorted({label for label, _ in rows}))
    vae = SentenceVAE.from_pretrained(config.model, str(choose_device(config.device)))
    features = vae.encode([text for _, text in rows]).numpy()
    numbers = np.array([names.index(label) for label, _ in rows])
    return Points(features, numbers, names, tuple(text for _, text in rows))


def _read_features(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Labels (N,), features (N, D) and names of the classes; pickled objects are refused."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return content["labels"], content["features"], tuple(content["names"].tolist())
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no file of features that a command wrote: {error}") from error


def _thin(config: PlotConfig, points: Points) -> Points:
    if len(points.features) <= config.limit:
        return points
    generator = np.random.default_rng(config.seed)
    chosen = np.sort(generator.choice(len(points.features), config.limit, replace=False))
    texts = None if points.texts is None else tuple(points.texts[i] for i in chosen)
    return Points(points.features[chosen], points.labels[chosen], points.names, texts)
