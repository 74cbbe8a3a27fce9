"""``prevalent trajectories``: a page that shows what an agent walked, weighed and read."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..metrics.navigation import SUCCESS_RADIUS
from ..runs import open_run
from ..runtime.command import parse
from ..runtime.files import write_atomically
from ..runtime.options import at_least
from ..simulator.graph import Graphs
from ..tasks.r2r import open_agent
from .explorer import Trace, trace
from .scenes import draw_map

STYLE = (
    "body{font:15px sans-serif;max-width:70em;margin:2em auto}img{max-width:100%}"
    "td,th{padding:.2em .6em;text-align:left;vertical-align:top}.ok{color:#060}.no{color:#a00}"
)


@dataclass(frozen=True)
class TrajectoriesConfig:
    """Walk some episodes of a split greedily and draw every step."""

    run_dir: Path
    """Run of `prevalent train-r2r`."""
    split: str = "val_unseen"
    """Split to walk."""
    count: int = 8
    """Number of episodes, from the start of the split."""
    ids: tuple[str, ...] = ()
    """Instructions to show instead, for example 4332_0."""
    snapshot: str | None = None
    """Which agent of the run: best_val_unseen if not given, or last where there is none yet."""
    step: int | None = None
    """The agent of this checkpoint instead."""
    data_dir: Path | None = None
    """Data folder in place of the run's own."""
    output: Path | None = None
    """Folder to write; ``trajectories_SPLIT`` in the run if not given."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""

    def __post_init__(self) -> None:
        at_least(self, count=1)


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent trajectories --run-dir runs/r2r/demo --split val_unseen``."""
    config = parse(TrajectoriesConfig, argv, "prevalent trajectories")
    print(f"wrote {show_trajectories(config)}")


def show_trajectories(config: TrajectoriesConfig) -> Path:
    """Write ``index.html`` and a picture for each episode; returns the page's path.

    Raises ``ValueError`` where an instruction that was asked for is not in the split.
    """
    agent = open_agent(
        open_run(config.run_dir, "r2r"),
        config.split,
        snapshot=config.snapshot,
        step=config.step,
        data_dir=config.data_dir,
        device=config.device,
    )
    places = {one.id: i for i, one in enumerate(agent.episodes.instructions)}
    unknown = [name for name in config.ids if name not in places]
    if unknown:
        raise ValueError(f"--ids {unknown[0]} is not in the split {config.split!r}")
    index = [places[name] for name in config.ids] or list(range(config.count))[: len(places)]
    traces = trace(agent.follower, agent.episodes.batch(index), agent.tokenizer)
    folder = config.output or config.run_dir / f"trajectories_{Path(config.split).stem}"
    folder.mkdir(parents=True, exist_ok=True)
    for one in traces:
        save_trace(folder / f"{one.task.id}.png", agent.data.graphs, one)
    body = "\n".join(describe_trace(agent.data.graphs, one) for one in traces)
    title = f"{config.run_dir.name}, {config.split}"
    page = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title>"
    page += f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>\n{body}\n"
    write_atomically(folder / "index.html", page)
    return folder / "index.html"


def save_trace(path: Path, graphs: Graphs, one: Trace) -> None:
    """Draw the map with candidates by probability, and beside it the attention to the words."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib; install it with `pip install prevalent-vln[plots]`"
        ) from error
    figure = Figure(figsize=(14, 7), layout="tight")
    FigureCanvasAgg(figure)
    axes, grid = figure.subplots(1, 2)
    names = graphs.viewpoints
    walks = {"agent": [names[node] for node in one.nodes], "reference": list(one.task.path)}
    draw_map(graphs, one.task.scan, walks, axes=axes, title=one.task.id)
    for step in one.steps:
        here = graphs.positions[step.node]
        for target, share in zip(step.targets, step.probabilities, strict=False):
            x, y = zip(here[:2], graphs.positions[target][:2], strict=True)
            axes.plot(x, y, color="tab:purple", linewidth=5, alpha=0.5 * share, zorder=2.5)
    for number, node in enumerate(one.nodes):
        axes.annotate(str(number), graphs.positions[node][:2], fontsize=8, zorder=5)
    grid.imshow(np.stack([step.attention for step in one.steps]), aspect="auto", cmap="Blues")
    grid.set_xticks(range(len(one.words)), one.words, rotation=90, fontsize=7)
    grid.set_yticks(range(len(one.steps)))
    grid.set(title="attention to the words", ylabel="step")
    figure.savefig(path, dpi=90)


def describe_trace(graphs: Graphs, one: Trace) -> str:
    """A section of the page."""
    goal = graphs.node(one.task.scan, one.task.path[-1])
    left = float(graphs.distance(one.nodes[-1], goal))
    verdict = "ok" if left < SUCCESS_RADIUS else "no"
    rows = ["<tr><th>step<th>place<th>choice<th>candidates<th>most read"]
    for number, step in enumerate(one.steps):
        names = [graphs.viewpoints[target] for target in step.targets] + ["STOP"]
        shares = sorted(zip(step.probabilities, names, strict=True), reverse=True)
        listed = ", ".join(f"{name[:8]} {share:.2f}" for share, name in shares)
        read = [one.words[i] for i in np.argsort(step.attention)[::-1][:4]]
        cells = [number, graphs.viewpoints[step.node][:8], names[step.action][:8], listed]
        cells.append(" ".join(read))
        rows.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}" for cell in cells))
    return (
        f"<h2>{html.escape(one.task.id)}</h2><p>{html.escape(one.text)}</p>"
        f"<p class={verdict}>ends {left:.1f} m from the goal after {len(one.nodes) - 1} moves</p>"
        f"<img src='{html.escape(one.task.id)}.png' alt='map and attention'>"
        f"<table>{''.join(rows)}</table>"
    )
