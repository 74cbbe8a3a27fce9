"""``prevalent trajectories``: a page that shows what an agent walked, weighed and read.

Of a file of results of any task the walks are drawn; what was weighed and read is known of runs of
Room-to-Room alone.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config import default_data_dir
from ..data.results import (
    Answers,
    Reference,
    Result,
    Task,
    check_goals,
    check_results,
    hides_goals,
    open_answers,
    score_each,
)
from ..metrics.navigation import SUCCESS_RADIUS, reference_path, without_repeats
from ..runs import open_run
from ..runtime.command import parse
from ..runtime.files import write_atomically
from ..runtime.options import at_least
from ..simulator.graph import Graphs
from ..tasks.r2r import TrainedAgent, open_agent
from ..tasks.starting import parse_and_try
from .explorer import Trace, trace
from .scenes import draw_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = (
    "body{font:15px sans-serif;max-width:70em;margin:2em auto}img{max-width:100%}"
    "td,th{padding:.2em .6em;text-align:left;vertical-align:top}.ok{color:#060}.no{color:#a00}"
)


MOST_WAYS = 3  # references of an episode that are drawn
TOLD_SCORES = (
    *("success_rate", "spl", "nav_error", "error", "ndtw", "rgs", "found_rate"),
    "dist_to_end_reduction",
)
"""What is said of a walk, as far as its task has it."""


@dataclass(frozen=True)
class TrajectoriesConfig:
    """Walk some episodes of a split greedily and draw every step, or draw a file of results."""

    run_dir: Path | None = None
    """Run of `prevalent train-r2r`."""
    results: Path | None = None
    """File of results of any task instead; its walks are drawn."""
    task: Task = "r2r"
    """Results: what they answer."""
    split: str = "val_unseen"
    """Split to walk, or that the results answer."""
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
        if self.output is not None and self.output.suffix in (".html", ".htm"):
            raise ValueError(
                f"--output {self.output} is to be a folder, in which index.html and the pictures "
                f"are written; give --output {self.output.with_suffix('')}"
            )
        if (self.results is None) == (self.run_dir is None):
            raise ValueError("give either --results FILE or --run-dir RUN")


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent trajectories --run-dir runs/r2r/demo --split val_unseen``."""
    config = parse_and_try(
        lambda words: parse(TrajectoriesConfig, words, "prevalent trajectories"), try_show, argv
    )
    print(f"wrote {show_trajectories(config)}")


def try_show(config: TrajectoriesConfig) -> None:
    """Raise what a page is refused for before it is drawn."""
    if config.run_dir is None:
        open_shown(config)
    else:
        open_walker(config)


def show_trajectories(config: TrajectoriesConfig) -> Path:
    """Write ``index.html`` and a picture for each episode; returns the page's path.

    Raises ``ValueError`` where an instruction that was asked for is not in the split.
    """
    if config.run_dir is None:
        return show_results(config)
    agent, index = open_walker(config)
    traces = trace(agent.follower, agent.episodes.batch(index), agent.tokenizer)
    folder = config.output or config.run_dir / f"trajectories_{Path(config.split).stem}"
    folder.mkdir(parents=True, exist_ok=True)
    for one in traces:
        save_trace(folder / f"{one.task.id}.png", agent.data.graphs, one)
    sections = [describe_trace(agent.data.graphs, one) for one in traces]
    return write_page(folder, f"{config.run_dir.name}, {config.split}", sections)


def open_walker(config: TrajectoriesConfig) -> tuple[TrainedAgent, list[int]]:
    """The agent of the run, and which of its episodes are shown."""
    assert config.run_dir is not None
    agent = open_agent(
        open_run(config.run_dir, "r2r"),
        config.split,
        snapshot=config.snapshot,
        step=config.step,
        data_dir=config.data_dir,
        device=config.device,
    )
    check_goals(agent.episodes.references(), agent.config.data, config.split)
    places = {one.id: i for i, one in enumerate(agent.episodes.instructions)}
    return agent, [places[name] for name in chosen_ids(config, list(places))]


def chosen_ids(config: TrajectoriesConfig, known: Sequence[str]) -> list[str]:
    """The episodes to show; ``ValueError`` where one of ``--ids`` is not ``known``."""
    unknown = [name for name in config.ids if name not in known]
    if unknown:
        raise ValueError(f"--ids {unknown[0]} is not in the split {config.split!r}")
    return list(config.ids) or list(known)[: config.count]


def write_page(folder: Path, title: str, sections: Sequence[str]) -> Path:
    """``index.html`` with a heading and the sections below it; returns its path."""
    body = "\n".join(sections)
    page = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title>"
    page += f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>\n{body}\n"
    write_atomically(folder / "index.html", page)
    return folder / "index.html"


def open_shown(config: TrajectoriesConfig) -> tuple[Answers, list[Reference]]:
    """What the file of results answers, and which of it is shown."""
    assert config.results is not None
    data_dir = config.data_dir or default_data_dir()
    answers = open_answers(config.results, data_dir, config.task, config.split)
    about = {"origin": str(config.results), "split": config.split}
    check_results(*answers, allow_missing=True, allow_jumps=True, **about)
    by_id = {one.id: one for one in answers.references if one.id in answers.results}
    return answers, [by_id[name] for name in chosen_ids(config, list(by_id))]


def show_results(config: TrajectoriesConfig) -> Path:
    """A page with a map of each walk of a file of results; see `show_trajectories`."""
    assert config.results is not None
    answers, shown = open_shown(config)
    results, graphs, task = answers.results, answers.graphs, config.task
    hidden = hides_goals(shown, task)
    scores = {} if hidden else score_each(results, shown, graphs, task)
    stem = config.results.name.partition(".")[0]
    folder = config.output or config.results.parent / f"trajectories_{stem}"
    folder.mkdir(parents=True, exist_ok=True)
    sections = []
    for number, one in enumerate(shown):
        picture = f"{number}.png"
        save_walk(folder / picture, graphs, one, results[one.id], task)
        sections.append(describe_walk(one, results[one.id], scores.get(one.id, {}), picture))
    return write_page(folder, f"{config.results.name}, {task} {config.split}", sections)


def ways_of(reference: Reference, task: Task) -> dict[str, list[str]]:
    """What is drawn beside a walk: the path or paths of the data, or where the goals are."""
    item = reference.item
    if task == "ndh":
        if not item.get("planner_path") or not item.get("player_path"):
            return {}
        return {
            "oracle": reference_path(item, "planner_path"),
            "navigator": reference_path(item, "player_path"),
        }
    if task == "hanna":
        paths = item["paths"][:MOST_WAYS]
        return {f"to goal {number + 1}": list(path) for number, path in enumerate(paths)}
    goals = [*item.get("goals", ()), *item.get("targets", ())][:MOST_WAYS]
    seen = {f"seen from {number + 1}": [goal] for number, goal in enumerate(goals)}
    return {"reference": list(item["path"]), **seen}


def save_walk(path: Path, graphs: Graphs, one: Reference, result: Result, task: Task) -> None:
    """Draw the walk of a result on the map of its scan, its places numbered."""
    figure = new_figure(8)
    axes = figure.subplots()
    ways = {"agent": result.viewpoints, **ways_of(one, task)}
    draw_map(graphs, one.scan, ways, axes=axes, title=one.id)
    for number, viewpoint in enumerate(without_repeats(result.viewpoints)):
        place = graphs.positions[graphs.node(one.scan, viewpoint)][:2]
        axes.annotate(str(number), place, fontsize=8, zorder=5)
    figure.savefig(path, dpi=80)


def describe_walk(one: Reference, result: Result, scores: Mapping[str, float], picture: str) -> str:
    """A section of the page of a file of results."""
    told = ", ".join(f"{name} {scores[name]:.3g}" for name in TOLD_SCORES if name in scores)
    verdict = "ok" if scores.get("success_rate") else "no"
    moves = len(without_repeats(result.viewpoints)) - 1
    said = f"{moves} moves; {told or 'its goal is hidden'}"
    if result.object is not None:
        said += f"; names object {result.object} (asked for: {one.item.get('object', 'hidden')})"
    return (
        f"<h2>{html.escape(one.id)}</h2><p>{html.escape(one.text)}</p>"
        f"<p class={verdict}>{html.escape(said)}</p>"
        f"<img src='{picture}' alt='map of {html.escape(one.id)}'>"
    )


def new_figure(width: float) -> Figure:
    """A picture 7 inches high that is drawn without a window."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib; install it with `pip install prevalent-vln[plots]`"
        ) from error
    figure = Figure(figsize=(width, 7), layout="tight")
    FigureCanvasAgg(figure)
    return figure


def save_trace(path: Path, graphs: Graphs, one: Trace) -> None:
    """Draw the map with candidates by probability, and beside it the attention to the words."""
    figure = new_figure(14)
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
