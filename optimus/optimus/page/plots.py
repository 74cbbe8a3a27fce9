"""``optimus plot-latents``, and its pictures: latents or features in the plane, coloured by label.

The HTML page is self-contained: it draws with the browser's own means and loads nothing.
"""

from __future__ import annotations

import html
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ..api import SentenceVAE
from ..data.labeled import read_labeled
from ..runtime.command import parse
from ..runtime.distributed import choose_device
from ..runtime.files import json_text, why, write_atomically
from ..runtime.options import at_least, require

Method = Literal["tsne", "mds", "isomap"]
COLORS = (
    "#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd",
    "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#7f7f7f",
)  # fmt: skip


def embed(features: np.ndarray, method: Method = "tsne", seed: int = 0) -> np.ndarray:
    """``features`` (N, D) in the plane, (N, 2), by scikit-learn.

    MDS has the authors' settings (500 iterations, one start). Equal vectors are placed once and
    share their point: they have no order in which a method could lay them out.

    Raises:
        ValueError: fewer than 5 different vectors, or a number that is not finite.
    """
    from sklearn.manifold import MDS, TSNE, Isomap

    features = np.asarray(features, dtype=np.float64)
    _require_finite(features)
    # methods compute in fp32: what is equal there is equal
    _, chosen, places = np.unique(
        features.astype(np.float32), axis=0, return_index=True, return_inverse=True
    )
    count, total = len(chosen), len(features)
    if count < 5:
        raise ValueError(
            f"a picture of latents needs at least 5 different ones, got {count} among {total}"
        )
    if count == total:  # the order of the file decides on the picture
        chosen, places = np.arange(total), np.arange(total)
    model: Any
    if method == "tsne":
        start: Any = "pca" if features.shape[1] > 1 else "random"
        perplexity = min(30.0, (count - 1) / 3)
        model = TSNE(perplexity=perplexity, init=start, random_state=seed)
    elif method == "mds":
        model = MDS(max_iter=500, n_init=1, random_state=seed, **_mds_start())
    else:
        model = Isomap(n_neighbors=min(15, count - 1))
    return np.asarray(model.fit_transform(features[chosen]))[places.reshape(-1)]


def _require_finite(features: np.ndarray) -> None:
    wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"{len(wrong)} of {len(features)} vectors hold numbers that are not finite, the first "
            f"is vector {wrong[0]}"
        )


def _mds_start() -> dict[str, str]:
    """A random start, named where this scikit-learn has the option, so that it does not warn."""
    from inspect import signature

    from sklearn.manifold import MDS

    return {"init": "random"} if "init" in signature(MDS).parameters else {}


def distance_matrix(features: np.ndarray) -> np.ndarray:
    """Euclidean distances (N, N) of ``features`` (N, D)."""
    _require_finite(features)
    squares = np.square(features).sum(axis=1)
    squared = squares[:, None] + squares[None] - 2 * features @ features.T
    return np.sqrt(np.maximum(squared, 0.0))


def draw_points(
    points: np.ndarray, labels: np.ndarray, names: Sequence[str], path: Path, title: str = ""
) -> None:
    """A scatter plot of ``points`` (N, 2), one colour for each of the labels (N,), as PNG."""
    figure, axes = _figure()
    for number, name in enumerate(names):
        chosen = points[labels == number]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=8, color=COLORS[number % 10], label=name)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title)
    axes.legend(markerscale=2, fontsize="small")
    figure.savefig(path, dpi=150, bbox_inches="tight")


def draw_distances(distances: np.ndarray, path: Path, title: str = "") -> None:
    """A matrix (N, N) of distances as PNG."""
    figure, axes = _figure()
    image = axes.imshow(distances, cmap="viridis")
    figure.colorbar(image, ax=axes, label="distance")
    axes.set_title(title)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def _figure() -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib, which is an extra: pip install 'optimus-vae[plots]'"
        ) from error
    figure = Figure(figsize=(6, 6))
    return figure, figure.subplots()


def write_page(
    points: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    path: Path,
    *,
    texts: Sequence[str] | None = None,
    title: str = "latents",
) -> None:
    """Write `render_page` to ``path``."""
    write_atomically(path, render_page(points, labels, names, texts=texts, title=title))


def render_page(
    points: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    texts: Sequence[str] | None = None,
    title: str = "latents",
) -> str:
    """An HTML page with the ``points`` (N, 2): wheel zooms, dragging moves, hovering tells.

    Args:
        points: where.
        labels: (N,) class numbers.
        names: of the classes; a click on one hides it.
        texts: what is shown for each point beside its class.
        title: of the page.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    placed = (points - low) / np.maximum(high - low, 1e-12)
    rows = [
        [round(float(x), 4), round(float(y), 4), int(label), texts[i] if texts is not None else ""]
        for i, ((x, y), label) in enumerate(zip(placed, labels, strict=True))
    ]
    content = json_text({"points": rows, "names": [*names], "colors": COLORS})
    content = content.replace("<", "\\u003c")  # a text must not end the script
    return PAGE.replace("TITLE", html.escape(title)).replace("CONTENT", content)


def render_bars(values: Sequence[float], label: str = "z") -> str:
    """``values`` (Z,) as bars around zero, an SVG picture; hovering tells number and value."""
    limit = max(1e-6, *(abs(value) for value in values))
    width = 800 / len(values)
    bars = [
        f'<rect x="{i * width:.2f}" y="{100 - max(value, 0) / limit * 90:.2f}" '
        f'width="{0.8 * width:.2f}" height="{abs(value) / limit * 90:.2f}" '
        f'fill="{COLORS[value < 0]}"><title>{html.escape(label)}[{i}] = {value:.3f}</title></rect>'
        for i, value in enumerate(values)
    ]
    return (
        '<svg viewBox="0 0 800 200" width="100%" role="img" '
        f'aria-label="{len(values)} dimensions of {html.escape(label)}">{"".join(bars)}'
        '<line x1="0" x2="800" y1="100" y2="100" stroke="#888"/>'
        f'<text x="2" y="12" font-size="11" fill="#888">largest {limit:.2f}</text></svg>'
    )


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>TITLE</title><style>
body { font: 14px sans-serif; margin: 1em } canvas { border: 1px solid #ccc; cursor: grab }
#legend span { margin-right: 1em; cursor: pointer } #legend .off { opacity: .3 }
#tip { min-height: 3em; max-width: 800px; white-space: pre-wrap }
</style></head><body><h1>TITLE</h1><div id="legend"></div>
<canvas id="plot" width="800" height="700"></canvas><div id="tip"></div><script>
const data = CONTENT;
const canvas = document.getElementById("plot"), pen = canvas.getContext("2d");
const tip = document.getElementById("tip"), hidden = new Set();
const wide = canvas.width = Math.min(800, Math.max(300, innerWidth - 40));
const size = data.names.map((_, i) => data.points.filter(p => p[2] == i).length < 10 ? 6 : 3);
let scale = 1, left = 0, top_ = 0, drag = null;
const spot = p => [left + scale * (20 + p[0] * (wide - 40)), top_ + scale * (680 - p[1] * 660)];
function draw() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  for (const p of data.points) {
    if (hidden.has(p[2])) continue;
    const [x, y] = spot(p);
    pen.fillStyle = data.colors[p[2] % data.colors.length];
    pen.beginPath(); pen.arc(x, y, size[p[2]], 0, 7); pen.fill();
  }
}
data.names.forEach((name, i) => {
  const item = document.createElement("span");
  item.textContent = "\\u25cf " + name;
  item.style.color = data.colors[i % data.colors.length];
  item.onclick = () => {
    hidden.has(i) ? hidden.delete(i) : hidden.add(i);
    item.classList.toggle("off"); draw();
  };
  document.getElementById("legend").append(item);
});
canvas.onwheel = event => {
  event.preventDefault();
  const factor = event.deltaY < 0 ? 1.2 : 1 / 1.2;
  left = event.offsetX - factor * (event.offsetX - left);
  top_ = event.offsetY - factor * (event.offsetY - top_);
  scale *= factor; draw();
};
canvas.onmousedown = event => { drag = [event.offsetX - left, event.offsetY - top_]; };
window.onmouseup = () => { drag = null; };
canvas.onmousemove = event => {
  if (drag) { left = event.offsetX - drag[0]; top_ = event.offsetY - drag[1]; draw(); return; }
  let best = null, least = 64;
  for (const p of data.points) {
    if (hidden.has(p[2])) continue;
    const [x, y] = spot(p), far = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
    if (far < least) { least = far; best = p; }
  }
  tip.textContent = best ? data.names[best[2]] + (best[3] ? ": " + best[3] : "") : "";
};
draw();
</script></body></html>
"""


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlotConfig:
    """Draw features that a command wrote, or the latents of labelled text."""

    features: Path | None = None
    """features.npz of `optimus train-classifier` or latents.npz of `optimus evaluate-dialog`."""
    model: Path | None = None
    """A run or a folder of a model, to encode --text with."""
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
        at_least(self, limit=5)


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
        raise ValueError(
            f"{path} is no file of features that a command wrote: {why(error)}"
        ) from error


def _thin(config: PlotConfig, points: Points) -> Points:
    if len(points.features) <= config.limit:
        return points
    generator = np.random.default_rng(config.seed)
    chosen = np.sort(generator.choice(len(points.features), config.limit, replace=False))
    texts = None if points.texts is None else tuple(points.texts[i] for i in chosen)
    return Points(points.features[chosen], points.labels[chosen], points.names, texts)
