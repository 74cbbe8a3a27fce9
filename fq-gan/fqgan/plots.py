"""Curves of a run: losses, FID and codebook perplexity. Needs matplotlib, an optional extra."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from .runtime.command import parse
from .runtime.logs import read_metrics

logger = logging.getLogger(__name__)

MISSING = "curves were not drawn: matplotlib is not installed; `pip install 'fq-gan[plots]'` has it"
LOSSES = ("loss_generator", "loss_real", "loss_fake")


@dataclass(frozen=True)
class PlotConfig:
    """Draw the curves of runs, each into its own folder."""

    run_dirs: tyro.conf.Positional[tuple[str, ...]]
    """Folders of runs."""


def main(argv: Sequence[str]) -> None:
    """Run ``fqgan plot RUN ...``."""
    config = parse(PlotConfig, argv, "fqgan plot")
    if not config.run_dirs:
        raise ValueError("no run was named; give the folders of runs, such as runs/demo")
    for run_dir in config.run_dirs:
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

    run_dir = Path(run_dir)
    if not (run_dir / "metrics.jsonl").exists() or not (rows := read_metrics(run_dir)):
        raise FileNotFoundError(f"{run_dir} has no rows in metrics.jsonl, so there are no curves")
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    losses, fid, perplexity = figure.subplots(1, 3)
    draw(losses, rows, {name: name.removeprefix("loss_") for name in LOSSES}, "loss")
    draw(fid, rows, {"fid": "FID"}, "FID", marker="o")
    ending = "/codebook_perplexity"
    layers = sorted({name for row in rows for name in row if name.endswith(ending)})
    named = {name: name.removesuffix(ending) for name in layers}
    draw(perplexity, rows, named or {"codebook_perplexity": ""}, "codebook perplexity")
    path = run_dir / "curves.png"
    figure.savefig(path, dpi=110)
    return path


def draw(
    axes: Any, rows: list[dict[str, float]], curves: dict[str, str], title: str, marker: str = ""
) -> None:
    """Draw the columns named in ``curves`` (column -> label) over the step."""
    for column, label in curves.items():
        points = [(row["step"], row[column]) for row in rows if column in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker=marker, linewidth=1)
    axes.set(xlabel="iteration", title=title)
    axes.grid(alpha=0.3)
    if len(axes.lines) > 1:
        axes.legend(fontsize=8)
