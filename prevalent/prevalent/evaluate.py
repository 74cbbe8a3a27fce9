"""``prevalent evaluate``, ``submit`` and ``baseline``: walk, score, write for a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

import numpy as np

from .agents.search import Mixture
from .agents.simple import SimpleAgent, hanna_results, ndh_results, r2r_results
from .config import default_data_dir
from .data.instructions import expand, read_paths
from .data.ndh import path_of
from .data.results import (
    Reference,
    Results,
    Task,
    check_goals,
    check_results,
    hides_goals,
    read_references,
    read_results,
    score_results,
    to_results,
    write_results,
    write_submission,
)
from .environments.navigation import Episode
from .metrics.navigation import PathType
from .runs import open_run
from .runtime.command import parse
from .runtime.evaluation import Provenance, write_evaluation
from .runtime.options import at_least
from .runtime.run_folder import Run
from .simulator.graph import Graphs, load_graphs
from .tasks import graph, hanna, ndh, r2r
from .tasks.navigation import Walks, in_toy_world

PATH_TYPE_SCORES = ("success_rate", "oracle success_rate", "spl", "nav_error")
"""What depends on whose path is right; goal progress does not."""


@dataclass(frozen=True)
class WalkConfig:
    """What is walked, by which agent and how: `evaluate` and `submit` have this in common."""

    results: Path | None = None
    """JSON list of results, as the task's leaderboard takes it; ``.json.gz`` too."""
    run_dir: Path | None = None
    """Run of `prevalent train-r2r`, `train-graph`, `train-ndh` or `train-hanna`, whose agent shall
    walk."""
    split: str = "val_unseen"
    """Split that the results answer or the agent walks."""
    task: Task | None = None
    """Of a file: Room-to-Room (if not given), Navigation from Dialog History, or HANNA. A run knows
    its own."""
    data_dir: Path | None = None
    """Folder with connectivity/ and r2r/, ndh/ or hanna/ (default: the run's, $PREVALENT_DATA)."""

    snapshot: str | None = None
    """Which agent of the run: best_val_unseen if not given, or last where there is none yet."""
    step: int | None = None
    """The agent of this checkpoint instead."""
    beam: int = 0
    """Paths that a state-factored search collects before one is chosen; 0 walks greedily."""
    speaker: Path | None = None
    """Speaker that rescores those paths: a run, a snapshot, or a file of the authors' code."""
    alpha: float = 0.5
    """Share of the speaker's score."""
    batch_size: int = 100
    """Episodes that walk together."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""

    def __post_init__(self) -> None:
        if (self.results is None) == (self.run_dir is None):
            raise ValueError("give either --results FILE or --run-dir RUN")
        if self.results is not None:
            for name in ("step", "snapshot", "beam", "speaker"):
                if getattr(self, name):
                    raise ValueError(
                        f"--{name} is of the agent of a run; drop it, or give --run-dir RUN"
                    )
        if self.step is not None and self.snapshot is not None:
            raise ValueError("give --step or --snapshot, not both: each names weights of the run")
        at_least(self, beam=0, batch_size=1)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"--alpha must be in [0, 1], got {self.alpha}")


@dataclass(frozen=True)
class EvaluateConfig(WalkConfig):
    """Score a result file, or walk a split with the agent of a run and score that.

    A run gets ``results_SPLIT.json`` and ``evaluation_SPLIT.json``.
    """

    path_type: PathType | None = None
    """NDH: whose path is right (planner = Oracle, player = Navigator, trusted = Mixed); if not
    given, the one that the run has learned, and ``trusted_path`` for a file."""
    allow_missing: bool = False
    """Score a part of the split."""
    allow_jumps: bool = False
    """Accept steps between viewpoints that share no edge."""
    count_turns: bool = False
    """R2R: nDTW and SDTW take a viewpoint again for every turn that is made there."""
    row: str = ""
    """Row of the published tables to stand beside in the report."""
    output: Path | None = None
    """Also write the scores to this JSON file (of a run: always, ``evaluation_SPLIT.json``)."""
    tune_alpha: bool = False
    """Try 101 shares and four ways of averaging and keep the one with the most successes."""
    one_text: bool = False
    """An agent that reads several instructions of a path reads one of them only."""


@dataclass(frozen=True)
class SubmitConfig(WalkConfig):
    """Check that every instruction has one possible trajectory, then write the file."""

    split: str = "test"
    """Split that the leaderboard asks for."""
    output: Path | None = None
    """Where to write; ``submit_SPLIT.json`` beside the results or in the run if not given."""
    forbid_revisits: bool = True
    """Greedy walks of Room-to-Room do not return to a place, as the authors' submissions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task == "hanna":
            raise ValueError("--task hanna has no leaderboard; give r2r or ndh")


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent evaluate --run-dir runs/r2r/envdrop --split val_seen --beam 20``."""
    config = parse(EvaluateConfig, argv, "prevalent evaluate")
    scores = evaluate(config)
    width = max(map(len, scores))
    print("\n".join(f"{name:<{width}}  {value:.4f}" for name, value in scores.items()))


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Scores of ``config.results`` or of the run's agent, written down for the report.

    See the metrics for names and units.
    """
    if config.run_dir is not None:
        return evaluate_run(config, open_run(config.run_dir, "r2r", "graph", "ndh", "hanna"))
    assert config.results is not None
    task, data_dir = config.task or "r2r", config.data_dir or default_data_dir()
    references = read_references(data_dir, task, config.split)
    check_goals(references, task, config.split)
    results = read_results(config.results, task)
    scans = sorted({reference.scan for reference in references})
    graphs = load_graphs(data_dir / "connectivity", scans)
    check_results(
        results,
        references,
        graphs,
        allow_missing=config.allow_missing,
        allow_jumps=config.allow_jumps,
    )
    path_type = config.path_type or "trusted_path"
    scores = score_results(
        results, references, graphs, task, path_type=path_type, count_turns=config.count_turns
    )
    about = Provenance(
        task, config.split, len(results), len(references) - len(results),
        trial=len(results) < len(references) or "@" in config.split,
        settings=settings_of(config),
    )  # fmt: skip
    write_scores(config, config.output, scores, about, path_type)
    return scores


def evaluate_run(config: EvaluateConfig, run: Run) -> dict[str, float]:
    """Walk ``split`` with the agent of ``run``, keep the walks, score them."""
    task = task_of(config, run)
    check_goals(read_references(data_of(config, run), task, config.split), task, config.split)
    walks = walk(config, run)
    if walks.chosen_by:
        print(f"chosen by {walks.chosen_by}")
    results, suffix = walks.results, suffix_of(config)
    path = run.folder / f"results_{suffix}.json"
    path_type: PathType = "trusted_path"
    if run.kind == "ndh":
        path_type = config.path_type or run.config.path_type
    scores: dict[str, float] = {}
    for one in get_args(PathType) if run.kind == "ndh" else (path_type,):
        row = score_results(
            results, walks.references, walks.graphs, task,
            path_type=one, count_turns=config.count_turns,
        )  # fmt: skip
        if run.kind == "ndh":
            cells = (f"{name} {row[name]:.4f}" for name in PATH_TYPE_SCORES)
            print(f"{one:<13} " + "  ".join(cells))
        scores = row if one == path_type else scores
    write_results(path, results, task)
    about = Provenance(
        task, config.split, len(results), walks.left_out,
        trial="@" in config.split or walks.left_out > 0,
        step=walks.step, seed=run.config.seed, precision=run.config.precision,
        settings={"beam": config.beam, **settings_of(config)},
    )  # fmt: skip
    output = config.output or run.folder / f"evaluation_{suffix}.json"
    write_scores(config, output, scores, about, path_type)
    return scores


def task_of(config: WalkConfig, run: Run) -> Task:
    """The task that the agent of ``run`` walks; refuses another ``--task``."""
    task = cast(Task, "r2r" if run.kind == "graph" else run.kind)
    if config.task not in (None, task):
        raise ValueError(
            f"--task {config.task}: {run.folder} is a run of kind {run.kind!r}; drop --task"
        )
    return task


def data_of(config: WalkConfig, run: Run) -> Path:
    """The folder that the split of a run is read from."""
    found: Path = config.data_dir or in_toy_world(run.config, run.folder / "world").data_dir
    return found


def settings_of(config: EvaluateConfig) -> dict[str, Any]:
    """What the scores depend on beside the walks, where it is not as published."""
    return {name: True for name in ("count_turns", "allow_jumps") if getattr(config, name)}


def walk(config: WalkConfig, run: Run) -> Walks:
    """Walk ``split`` with the agent of ``run``, which decides on the task."""
    options: dict[str, Any] = {"snapshot": config.snapshot, "step": config.step}
    options |= {"data_dir": config.data_dir, "device": config.device}
    if run.kind != "r2r" and (config.beam or config.speaker):
        raise ValueError(f"--beam searches with agents of R2R only, {run.folder} is {run.kind}")
    if run.kind == "graph":
        return graph.walk_agent(graph.open_agent(run, config.split, **options), config.batch_size)
    if run.kind == "ndh":
        return ndh.walk_agent(ndh.open_agent(run, config.split, **options), config.batch_size)
    if run.kind == "hanna":
        agent = hanna.open_agent(run, config.split, **options)
        return hanna.walk_agent(agent, config.split, config.batch_size)
    how = r2r.Walking(config.batch_size, config.beam, config.speaker, Mixture(config.alpha))
    if isinstance(config, SubmitConfig):
        how = how._replace(forbid_revisits=config.forbid_revisits)
        return r2r.walk_agent(r2r.open_agent(run, config.split, **options), how)
    assert isinstance(config, EvaluateConfig)
    follower = r2r.open_agent(run, config.split, **options, alone=config.one_text)
    return r2r.walk_agent(follower, how._replace(tune=config.tune_alpha))


def suffix_of(config: EvaluateConfig) -> str:
    """Split and search, for file names."""
    split = Path(config.split).stem
    return f"{split}_beam{config.beam}" if config.beam else split


def write_scores(
    config: EvaluateConfig,
    path: Path | None,
    scores: Mapping[str, float],
    about: Provenance,
    path_type: PathType,
) -> None:
    """Record the scores with what they belong to, for ``prevalent report``."""
    if path is None:
        return
    record = {
        "task": about.kind,
        "split": config.split,
        "row": config.row,
        "path_type": path_type if about.kind == "ndh" else None,
        "scores": dict(scores),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_evaluation(path, record, about)


def main_submit(argv: Sequence[str]) -> None:
    """Run ``prevalent submit --run-dir runs/r2r/envdrop --split test``."""
    config = parse(SubmitConfig, argv, "prevalent submit")
    print(f"wrote {submit(config)}")


def submit(config: SubmitConfig) -> Path:
    """Validate and write; raises ``ValueError`` naming the first offender and writes nothing."""
    task: Task
    results: Results
    if config.run_dir is not None:
        run = open_run(config.run_dir, "r2r", "graph", "ndh")
        task, folder = task_of(config, run), config.run_dir
        references = read_references(data_of(config, run), task, config.split)
        walks = walk(config, run)
        results, graphs = walks.results, walks.graphs
    else:
        assert config.results is not None
        task, folder = config.task or "r2r", config.results.parent
        data_dir = config.data_dir or default_data_dir()
        references = read_references(data_dir, task, config.split)
        results = read_results(config.results, task)
        scans = sorted({reference.scan for reference in references})
        graphs = load_graphs(data_dir / "connectivity", scans)
    check_results(results, references, graphs)
    output = config.output or folder / f"submit_{Path(config.split).stem}.json"
    write_submission(output, results, task)
    return output


@dataclass(frozen=True)
class BaselineConfig:
    """Walk a split without learning."""

    agent: SimpleAgent = "random"
    """random, stop, forward or shortest."""
    split: str = "val_unseen"
    """Split to walk."""
    task: Task = "r2r"
    """Room-to-Room, Navigation from Dialog History, or HANNA."""
    path_type: PathType = "trusted_path"
    """NDH: whose path the shortest agent follows to its end."""
    data_dir: Path = field(default_factory=default_data_dir)
    """Folder with connectivity/ and r2r/, ndh/ or hanna/."""
    output: Path | None = None
    """JSON file for the first seed's results, in the form of the task's leaderboard."""
    seed: int = 0
    """First seed of the random agent."""
    seeds: int = 1
    """Number of seeds; the scores are printed as mean [least, greatest]."""

    def __post_init__(self) -> None:
        at_least(self, seeds=1)


class ObjectSearch(NamedTuple):
    """A HANNA item as the agents take it."""

    id: str
    scan: str
    heading: float
    paths: Sequence[Sequence[str]]


def main_baseline(argv: Sequence[str]) -> None:
    """Run ``prevalent baseline --agent random --split val_seen --seeds 10``."""
    config = parse(BaselineConfig, argv, "prevalent baseline")
    references = read_references(config.data_dir, config.task, config.split)
    scans = sorted({reference.scan for reference in references})
    graphs = load_graphs(config.data_dir / "connectivity", scans)
    hidden = hides_goals(references, config.task)
    rows = []
    for seed in range(config.seed, config.seed + config.seeds):
        walked = run_baseline(replace(config, seed=seed), references, graphs)
        results = to_results(walked, config.task)
        if config.output is not None and seed == config.seed:
            write_results(config.output, results, config.task)
        if not hidden:
            rows.append(
                score_results(results, references, graphs, config.task, path_type=config.path_type)
            )
    print(f"{config.agent}, {config.task} {config.split}: {len(references)} walks a seed")
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        print(f"{name:<26} {np.mean(values):8.4f}  [{min(values):.4f}, {max(values):.4f}]")


def run_baseline(
    config: BaselineConfig, references: Sequence[Reference], graphs: Graphs
) -> list[dict[str, Any]]:
    """Results of ``config.agent`` for ``references``."""
    if config.task == "hanna":
        searches = [
            ObjectSearch(one.id, one.scan, float(one.item["heading"]), one.item["paths"])
            for one in references
        ]
        return hanna_results(config.agent, graphs, searches, seed=config.seed)
    if config.task == "ndh":
        episodes = [dialog_episode(reference, config.path_type) for reference in references]
        return ndh_results(config.agent, graphs, episodes, seed=config.seed)
    instructions = expand(read_paths(config.data_dir, config.split), config.split)
    episodes = [Episode(one.scan, one.path, one.heading, one.id) for one in instructions]
    return r2r_results(config.agent, graphs, episodes, seed=config.seed)


def dialog_episode(reference: Reference, path_type: PathType) -> Episode:
    """The walk that an NDH item asks for; its start elevation is unusable and taken as 0."""
    heading = float(reference.item["start_pano"]["heading"])
    path = path_of(reference.item, path_type)
    return Episode(reference.scan, path, heading, reference.id)
