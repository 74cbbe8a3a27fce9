"""Pictures and tables of single steps, as HTML that refers to no other file."""

from __future__ import annotations

import base64
import html
import io
import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..metrics.navigation import SUCCESS_RADIUS
from ..simulator.geometry import VIEW_STEP, canonical_angle
from ..simulator.graph import Graphs
from .explorer import Step, Trace, Walked

CELL = "style='padding:2px 6px;border:0;white-space:nowrap;font-size:.8em'"
AHEAD, BEHIND = VIEW_STEP / 2, np.pi - VIEW_STEP / 2


def show_step(walked: Walked, number: int) -> str:
    """One decision: the map so far, what was read, and what each choice scored.

    Args:
        walked: by whom and where.
        number: of the decision from 0; a number beyond the last shows the last.
    """
    one, graphs = walked.trace, walked.graphs
    number = min(max(number, 0), len(one.steps) - 1)
    step = one.steps[number]
    goal = graphs.node(one.task.scan, one.task.path[-1])
    left = float(graphs.distance(step.node, goal))
    does = "stops" if step.action >= len(step.targets) else f"goes to {letter(step.action)}"
    title = f"{walked.agent}, step {number + 1} of {len(one.steps)}: {left:.1f} m to go, {does}"
    title = html.escape(title)
    picture = base64.b64encode(render_map(graphs, one, number)).decode()
    return (
        f"<h4 class='step'>{title}</h4><img style='width:100%' alt='map: {title}' "
        f"src='data:image/png;base64,{picture}'>{show_words(one.words, step.attention)}"
        f"{show_choices(graphs, step)}"
    )


def render_map(graphs: Graphs, one: Trace, number: int) -> bytes:
    """PNG of the scan from above: the way so far, the reference, and the candidates by letter."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "maps need matplotlib; install it with `pip install prevalent-vln[plots]`"
        ) from error
    figure = Figure(figsize=(5, 4.6), layout="tight")
    FigureCanvasAgg(figure)
    axes, step = figure.add_subplot(), one.steps[number]
    walks = {
        "reference": list(one.task.path),
        "agent": [graphs.viewpoints[node] for node in one.nodes[: number + 1]],
    }
    draw_map(graphs, one.task.scan, walks, axes=axes)
    x, y = graphs.positions[step.node][:2]
    shares = step.probabilities or [0.0] * (len(step.targets) + 1)
    for i, target in enumerate(step.targets):
        to_x, to_y = graphs.positions[target][:2]
        width, chosen = 1.5 + 8 * shares[i], i == step.action
        color = "tab:green" if chosen else "tab:purple"
        axes.plot([x, to_x], [y, to_y], color=color, linewidth=width, alpha=0.5, zorder=2.5)
        box = {"boxstyle": "circle,pad=0.15", "fc": color, "ec": "white", "alpha": 0.9}
        axes.text(to_x, to_y, letter(i), color="white", fontsize=9, bbox=box, zorder=6, ha="center")
    east, north = 0.9 * np.sin(step.heading), 0.9 * np.cos(step.heading)
    axes.annotate(
        *("", (x + east, y + north), (x, y)),
        arrowprops={"arrowstyle": "-|>", "color": "black", "linewidth": 2},
        zorder=7,
    )
    file = io.BytesIO()
    figure.savefig(file, dpi=80, format="png")
    return file.getvalue()


def show_words(words: Sequence[str], attention: Sequence[float] | np.ndarray) -> str:
    """The words of an instruction, the darker the more they were read."""
    if not len(attention):
        return "<p class='words'><i>This agent reads nothing.</i></p>"
    most = max(float(np.max(attention)), 1e-9)
    spans = []
    for word, weight in zip(words, attention, strict=True):
        shade = f"rgba(31,119,180,{0.75 * float(weight) / most:.2f})"
        spans.append(
            f"<span title='{float(weight):.3f}' style='background:{shade};padding:0 2px'>"
            f"{html.escape(word or '·')}</span>"
        )
    return f"<p class='words'>{' '.join(spans)}</p>"


def show_choices(graphs: Graphs, step: Step) -> str:
    """A table of the candidates and STOP, with bars for their probabilities."""
    rows = []
    for i in range(len(step.targets) + 1):
        name, turn, way = "STOP", "", ""
        if i < len(step.targets):
            target = step.targets[i]
            name = f"{letter(i)} {graphs.viewpoints[target][:8]}"
            turn = turn_of(step.directions[i] - step.heading)
            way = f"{float(graphs.distance(step.node, target)):.1f} m"
        score, bar = "", ""
        if step.scores:
            share = step.probabilities[i]
            score = f"{step.scores[i]:.2f}"
            bar = (
                "<div style='background:#9467bd;height:.8em;display:inline-block;"
                f"width:{3 * share:.2f}em'></div> {share:.2f}"
            )
        mark = "&#9654;" if i == step.action else ""
        cells = [mark, html.escape(name), turn, way, score, bar]
        rows.append("<tr>" + "".join(f"<td {CELL}>{cell}</td>" for cell in cells) + "</tr>")
    names = ("", "choice", "turn", "way", "score", "probability")
    head = "".join(f"<th {CELL}>{name}</th>" for name in names)
    return f"<table class='choices'><tr>{head}</tr>{''.join(rows)}</table>"


def score_rows(walks: Sequence[Walked]) -> list[list[str]]:
    """A row of text per walk; see `score_headers`."""
    rows = []
    for walked in walks:
        scores = walked.scores
        cells = [
            str(len(walked.trace.nodes) - 1),
            *(f"{value:.1f}" for value in (scores.length, scores.nav_error)),
            "yes" if scores.success else "no",
            *(f"{value:.2f}" for value in (scores.spl, scores.ndtw)),
        ]
        rows.append([walked.agent, *cells])
    return rows


def score_headers() -> list[str]:
    """Names and units of the columns of `score_rows`."""
    return [
        *("agent", "moves", "walked (m)", "from the goal (m)"),
        *(f"success (within {SUCCESS_RADIUS:.0f} m)", "SPL", "nDTW"),
    ]


def letter(i: int) -> str:
    """A to Z, then A1, B1, ..."""
    round_, place = divmod(i, len(string.ascii_uppercase))
    return string.ascii_uppercase[place] + (str(round_) if round_ else "")


def turn_of(angle: float) -> str:
    """A relative heading in radians, in words."""
    angle = float(canonical_angle(angle))
    degrees = f"{abs(np.degrees(angle)):.0f}°"
    if abs(angle) <= AHEAD:
        return "ahead"
    if abs(angle) >= BEHIND:
        return "behind"
    return f"{'right' if angle > 0 else 'left'} {degrees}"


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
