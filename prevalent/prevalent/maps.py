"""Top-down maps of walks; needs the optional package matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .simulator.graph import Graphs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple")


def draw_map(
    graphs: Graphs,
    scan: str,
    walks: Mapping[str, Sequence[str]],
    *,
    axes: Axes | None = None,
    title: str = "",
) -> Axes:
    """Draw a scan from above with walks on it.

    Args:
        graphs: hold the scan.
        scan: its name.
        walks: label -> viewpoints; repeated viewpoints, as in micro trajectories, are harmless.
        axes: to draw on; a new figure when None.
        title: shown above.

    Viewpoints are colored by height; a disc marks the start of a walk and a star its end.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "maps need matplotlib; install it with `pip install prevalent-vln[plots]`"
        ) from error
    if axes is None:
        _, axes = pyplot.subplots(figsize=(7, 7))
    nodes = graphs.connected(scan)
    x, y, z = graphs.positions[nodes].T
    for node in nodes:
        for other in graphs.neighbors[node][: graphs.degree[node]]:
            if node < other:
                ends = graphs.positions[[node, other]]
                axes.plot(ends[:, 0], ends[:, 1], color="lightgray", linewidth=1, zorder=1)
    axes.scatter(x, y, c=z, cmap="Greys", s=14, edgecolors="gray", linewidths=0.5, zorder=2)
    for i, (label, viewpoints) in enumerate(walks.items()):
        places = graphs.positions[graphs.nodes([scan] * len(viewpoints), viewpoints)]
        color = COLORS[i % len(COLORS)]
        axes.plot(places[:, 0], places[:, 1], color=color, linewidth=2, label=label, zorder=3)
        axes.scatter(places[:1, 0], places[:1, 1], color=color, s=60, zorder=4)
        axes.scatter(places[-1:, 0], places[-1:, 1], color=color, s=140, marker="*", zorder=4)
    axes.set_aspect("equal")
    axes.set_xlabel("x (m)")
    axes.set_ylabel("y (m)")
    axes.set_title(title or scan)
    if walks:
        axes.legend()
    return axes


def save_map(
    path: str | Path,
    graphs: Graphs,
    scan: str,
    walks: Mapping[str, Sequence[str]],
    *,
    title: str = "",
) -> None:
    """Draw a map without a display and write it to ``path`` (png, pdf or svg)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 7), layout="tight")
    FigureCanvasAgg(figure)
    draw_map(graphs, scan, walks, axes=figure.add_subplot(), title=title)
    figure.savefig(path, dpi=120)
