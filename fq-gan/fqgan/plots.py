"""Curves of a run: losses, scores and codebook perplexity. Needs matplotlib, an optional extra."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from .runtime.command import parse
from .runtime.logs import read_metrics
from .runtime.options import shown

logger = logging.getLogger(__name__)

MISSING = "curves were not drawn: matplotlib is not installed; `pip install 'fq-gan[plots]'` has it"
# Losses that share a scale stand together; a panel without a curve is left out.
ADVERSARIAL = ("loss_generator", "loss_real", "loss_fake", "loss_discriminator")
RECONSTRUCTION = ("loss_cycle", "loss_identity", "loss_cam")
PERPLEXITY, KID = "/codebook_perplexity", "kid_x100/"
SMOOTH_FROM = 100  # points of a noisy curve, from which on a running mean is drawn over it


@dataclass(frozen=True)
class PlotConfig:
    """Draw the curves of runs, each into its own folder."""

    run_dirs: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")
    ] = ()
    """Folders of runs."""
    run_dir: str = ""
    """The folder of a run, named as other commands have it."""


def main(argv: Sequence[str]) -> None:
    """Run ``fqgan plot RUN ...``."""
    config = parse(PlotConfig, argv, "fqgan plot")
    run_dirs = [*config.run_dirs, *([config.run_dir] if config.run_dir else [])]
    if not run_dirs:
        raise ValueError("no run was named; give the folders of runs, such as runs/demo")
    for run_dir in run_dirs:
        print(plot_run(run_dir))


def try_plot(run_dir: str | Path) -> Path | None:
    """`plot_run` on rank 0; without matplotlib, or where nothing was logged, says so instead."""
    if os.environ.get("RANK", "0") != "0":  # the group of processes is gone by now
        return None
    try:
        path = plot_run(run_dir)
    except ImportError:
        logger.info(MISSING)
        return None
    except FileNotFoundError as error:
        logger.info("%s", error)
        return None
    logger.info("curves: %s", path)
    return path


def plot_run(run_dir: str | Path) -> Path:
    """Draw ``metrics.jsonl`` of ``run_dir`` into its ``curves.png``.

    Raises:
        ImportError: matplotlib is not installed.
        FileNotFoundError: the run has no metrics.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(MISSING) from error

    given, run_dir = run_dir, Path(run_dir)
    rows = read_metrics(run_dir) if (run_dir / "metrics.jsonl").exists() else []
    rows = [row for row in rows if "step" in row]
    panels = [(title, curves) for title, curves in panels_of(rows) if curves]
    if not panels:
        problem = "has no rows in metrics.jsonl"
        if not run_dir.is_dir():
            problem = "is a file" if run_dir.exists() else "does not exist"
        raise FileNotFoundError(
            f"{shown(given)} {problem}; give the folder of a run that was trained"
        )
    figure = Figure(figsize=(4 * len(panels), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, curves) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        draw(axes, rows, curves, title)
    path = run_dir / "curves.png"
    figure.savefig(path, dpi=110)
    return path


def panels_of(rows: list[dict[str, float]]) -> list[tuple[str, dict[str, str]]]:
    """Titles and curves (column -> label) of all panels."""
    columns = list(dict.fromkeys(name for row in rows for name in row))

    def losses(names: Sequence[str]) -> dict[str, str]:
        return {name: name.removeprefix("loss_") for name in names if name in columns}

    layers = sorted(name for name in columns if name.endswith(PERPLEXITY))
    perplexity = {name: name.removesuffix(PERPLEXITY) for name in layers}
    if not perplexity and "codebook_perplexity" in columns:
        perplexity = {"codebook_perplexity": ""}
    return [
        ("loss", losses(ADVERSARIAL)),
        ("reconstruction and attention", losses(RECONSTRUCTION)),
        ("R1", losses(("loss_r1",))),
        ("path length", losses(("loss_path_length",))),
        ("FID", {"fid": "FID"} if "fid" in columns else {}),
        ("KID x 100", {n: n.removeprefix(KID) for n in columns if n.startswith(KID)}),
        ("codebook perplexity", perplexity),
    ]


def draw(axes: Any, rows: list[dict[str, float]], curves: dict[str, str], title: str) -> None:
    """Draw the columns named in ``curves`` (column -> label) over the step."""
    for column, label in curves.items():
        points = [(row["step"], row[column]) for row in rows if column in row]
        steps, values = zip(*points, strict=True)
        marker = "o" if len(points) <= 30 else ""
        if len(points) < SMOOTH_FROM:
            axes.plot(steps, values, label=label, marker=marker, linewidth=1)
            continue
        (line,) = axes.plot(steps, values, linewidth=0.5, alpha=0.3)
        axes.plot(steps, running_mean(values), label=label, color=line.get_color(), linewidth=1.2)
    # Runs whose unit of progress is the image have their iterations in a column of its own.
    axes.set(
        xlabel="images" if any("iteration" in row for row in rows) else "iteration", title=title
    )
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend(fontsize=8)


def running_mean(values: Sequence[float]) -> np.ndarray:
    """Mean over a fiftieth of the curve around every point; less of it at the ends."""
    half = max(1, len(values) // 100)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    first, last = np.maximum(place - half, 0), np.minimum(place + half + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)
