"""``prevalent evaluate``: score a trained agent, or a result file of R2R, NDH or HANNA."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from .agents.search import Mixture
from .agents.simple import SimpleAgent, hanna_results, ndh_results, r2r_results
from .config import default_data_dir
from .data.instructions import expand, read_paths
from .data.ndh import path_of
from .data.results import (
    ID_FIELDS,
    Reference,
    Results,
    Task,
    check_results,
    read_references,
    read_results,
    score_results,
    write_submission,
)
from .environments.navigation import Episode
from .metrics.navigation import PathType
from .runtime.command import parse
from .runtime.files import write_atomically
from .runtime.rundir import read_config
from .simulator.graph import Graphs, load_graphs
from .tasks.hanna import open_assistance_agent, score_searches, search_tasks
from .tasks.ndh import NDHRun, open_dialog_agent, score_dialog_walks, walk_dialog_split
from .tasks.r2r import Walking, open_agent, score_walks, walk_agent

PATH_TYPE_SCORES = ("success_rate", "oracle success_rate", "spl", "nav_error")
"""What depends on whose path is right; goal progress does not."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a result file, or walk a split with the agent of a run and score that."""

    results: Path | None = None
    """JSON list of results, as the task's leaderboard takes it."""
    run_dir: Path | None = None
    """Run of `prevalent train-r2r`, or with --task ndh or hanna of `prevalent train-ndh` or
    `train-hanna`, whose agent shall walk; leaves ``results_SPLIT.json`` there."""
    split: str = "val_unseen"
    """Split that the results answer or the agent walks."""
    task: Task = "r2r"
    """Room-to-Room, Navigation from Dialog History, or HANNA."""
    data_dir: Path | None = None
    """Folder with connectivity/ and r2r/, ndh/ or hanna/ (default: the run's, $PREVALENT_DATA)."""
    path_type: PathType | None = None
    """NDH: whose path is right (planner = Oracle, player = Navigator, trusted = Mixed); if not
    given, the one that the run has learned, and ``trusted_path`` for a file."""
    allow_missing: bool = False
    """Score a part of the split."""
    allow_jumps: bool = False
    """Accept steps between viewpoints that share no edge."""
    row: str = ""
    """Row of the published tables to stand beside in the report."""
    output: Path | None = None
    """Also write the scores to this JSON file (of a run: always, ``evaluation_SPLIT.json``)."""

    snapshot: str = "best_val_unseen"
    """Which agent of the run."""
    beam: int = 0
    """Paths that a state-factored search collects before one is chosen; 0 walks greedily."""
    speaker: Path | None = None
    """Speaker that rescores those paths: a run, a snapshot, or a file of the authors' code."""
    alpha: float = 0.5
    """Share of the speaker's score."""
    tune_alpha: bool = False
    """Try 101 shares and four ways of averaging and keep the one with the most successes."""
    one_text: bool = False
    """An agent that reads several instructions of a path reads one of them only."""
    batch_size: int = 100
    """Episodes that walk together."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""

    def __post_init__(self) -> None:
        if (self.results is None) == (self.run_dir is None):
            raise ValueError("give either --results FILE or --run-dir RUN")
        if self.beam < 0 or self.batch_size < 1:
            raise ValueError("--beam must not be negative and --batch-size at least 1")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"--alpha must be in [0, 1], got {self.alpha}")


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent evaluate --run-dir runs/r2r/envdrop --split val_seen --beam 20``."""
    config = parse(EvaluateConfig, argv, "prevalent evaluate")
    if config.task == "ndh":
        config = replace(config, path_type=path_type_of(config))
    scores = evaluate(config)
    width = max(map(len, scores))
    print("\n".join(f"{name:<{width}}  {value:.4f}" for name, value in scores.items()))
    output = config.output
    if output is None and config.run_dir is not None:
        output = config.run_dir / f"evaluation_{suffix(config)}.json"
    if output is not None:
        write_evaluation(output, config, scores)


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Scores of ``config.results`` or of the run's agent; see the metrics for names and units."""
    if config.results is None:
        return evaluate_run(config)
    data_dir = config.data_dir or default_data_dir()
    references = read_references(data_dir, config.task, config.split)
    results = read_results(config.results, config.task)
    graphs = load_graphs(
        data_dir / "connectivity", sorted({reference.scan for reference in references})
    )
    check_results(
        results,
        references,
        graphs,
        config.task,
        allow_missing=config.allow_missing,
        allow_jumps=config.allow_jumps,
    )
    path_type = path_type_of(config)
    return score_results(results, references, graphs, config.task, path_type=path_type)


def path_type_of(config: EvaluateConfig) -> PathType:
    """``--path-type``, or what the run has learned."""
    if config.path_type is None and config.run_dir is not None and config.task == "ndh":
        return read_config(NDHRun, config.run_dir).path_type
    return config.path_type or "trusted_path"


def evaluate_run(config: EvaluateConfig) -> dict[str, float]:
    """Walk ``split`` with the agent of ``run_dir``, keep the walks, score them."""
    assert config.run_dir is not None
    if config.task == "ndh":
        return evaluate_dialog_run(config)
    if config.task == "hanna":
        return evaluate_assistance_run(config)
    agent = open_agent(
        config.run_dir,
        config.split,
        snapshot=config.snapshot,
        data_dir=config.data_dir,
        device=config.device,
        alone=config.one_text,
    )
    how = Walking(
        config.batch_size,
        config.beam,
        config.speaker,
        Mixture(config.alpha),
        tune=config.tune_alpha,
    )
    results, mixture = walk_agent(agent, how)
    if mixture is not None:
        print(f"chosen by {mixture}")
    path = config.run_dir / f"results_{suffix(config)}.json"
    write_atomically(path, json.dumps(list(results.values())) + "\n")
    return score_walks(results, agent.episodes, agent.world.graphs)


def evaluate_dialog_run(config: EvaluateConfig) -> dict[str, float]:
    """The same with an agent of NDH; prints its scores under every path type."""
    assert config.run_dir is not None
    agent, world, episodes, _ = open_dialog_agent(
        config.run_dir,
        config.split,
        snapshot=config.snapshot,
        data_dir=config.data_dir,
        device=config.device,
    )
    results = walk_dialog_split(agent, episodes, config.batch_size)
    path = config.run_dir / f"results_{suffix(config)}.json"
    write_atomically(path, json.dumps(list(results.values())) + "\n")
    scores = {
        path_type: score_dialog_walks(results, episodes, world.graphs, path_type)
        for path_type in get_args(PathType)
    }
    for path_type, row in scores.items():
        cells = (f"{name} {row[name]:.4f}" for name in PATH_TYPE_SCORES)
        print(f"{path_type:<13} " + "  ".join(cells))
    return scores[path_type_of(config)]


def evaluate_assistance_run(config: EvaluateConfig) -> dict[str, float]:
    """The same with an agent of HANNA."""
    assert config.run_dir is not None
    agent, world, tasks, _ = open_assistance_agent(
        config.run_dir,
        config.split,
        snapshot=config.snapshot,
        data_dir=config.data_dir,
        device=config.device,
    )
    results = search_tasks(agent, tasks, config.split, config.batch_size)
    path = config.run_dir / f"results_{suffix(config)}.json"
    write_atomically(path, json.dumps(list(results.values())) + "\n")
    return score_searches(results, tasks, world.graphs)


def suffix(config: EvaluateConfig) -> str:
    """Split and search, for file names."""
    split = Path(config.split).stem
    return f"{split}_beam{config.beam}" if config.beam else split


def write_evaluation(path: Path, config: EvaluateConfig, scores: Mapping[str, float]) -> None:
    """Record the scores with what they belong to, for ``prevalent report``."""
    record = {
        "task": config.task,
        "split": config.split,
        "row": config.row,
        "path_type": config.path_type if config.task == "ndh" else None,
        "scores": dict(scores),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(record, indent=2) + "\n")


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
        if self.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {self.seeds}")


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
    rows = []
    for seed in range(config.seed, config.seed + config.seeds):
        results = run_baseline(replace(config, seed=seed), references, graphs)
        if config.output is not None and seed == config.seed:
            config.output.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(config.output, json.dumps(results) + "\n")
        if config.split != "test":
            by_id = {str(result[ID_FIELDS[config.task]]): result for result in results}
            rows.append(
                score_results(by_id, references, graphs, config.task, path_type=config.path_type)
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


@dataclass(frozen=True)
class SubmitConfig:
    """Check that every instruction has one possible trajectory, then write the file."""

    results: Path | None = None
    """JSON list of results."""
    run_dir: Path | None = None
    """Run of `prevalent train-r2r`, or with --task ndh of `prevalent train-ndh`, whose agent shall
    walk the split."""
    split: str = "test"
    """Split that the leaderboard asks for."""
    task: Literal["r2r", "ndh"] = "r2r"
    """Leaderboard."""
    data_dir: Path | None = None
    """Folder with connectivity/ and r2r/ or ndh/ (default: the run's, or $PREVALENT_DATA)."""
    output: Path | None = None
    """Where to write; ``submit_SPLIT.json`` beside the results or in the run if not given."""

    snapshot: str = "best_val_unseen"
    """Which agent of the run."""
    forbid_revisits: bool = True
    """Greedy walks of Room-to-Room do not return to a place, as the authors' submissions."""
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
        if self.task == "ndh" and self.beam:
            raise ValueError("--beam searches for --task r2r only; drop it for --task ndh")


def main_submit(argv: Sequence[str]) -> None:
    """Run ``prevalent submit --run-dir runs/r2r/envdrop --split test``."""
    config = parse(SubmitConfig, argv, "prevalent submit")
    path = submit(config)
    print(f"wrote {path}")


def submit(config: SubmitConfig) -> Path:
    """Validate and write; raises ``ValueError`` naming the first offender and writes nothing."""
    if config.results is not None:
        results = read_results(config.results, config.task)
        data_dir = config.data_dir or default_data_dir()
        folder = config.results.parent
    else:
        assert config.run_dir is not None
        results, data_dir = walk_run(config)
        folder = config.run_dir
    references = read_references(data_dir, config.task, config.split)
    scans = sorted({reference.scan for reference in references})
    graphs = load_graphs(data_dir / "connectivity", scans)
    check_results(results, references, graphs, config.task)
    output = config.output or folder / f"submit_{config.split}.json"
    write_submission(output, results, config.task)
    return output


def walk_run(config: SubmitConfig) -> tuple[Results, Path]:
    """Results of the run's agent, and its data folder."""
    assert config.run_dir is not None
    if config.task == "ndh":
        return walk_dialog_run(config)
    agent = open_agent(
        config.run_dir,
        config.split,
        snapshot=config.snapshot,
        data_dir=config.data_dir,
        device=config.device,
    )
    how = Walking(
        config.batch_size,
        config.beam,
        config.speaker,
        Mixture(config.alpha),
        forbid_revisits=config.forbid_revisits,
    )
    return walk_agent(agent, how)[0], agent.config.data_dir


def walk_dialog_run(config: SubmitConfig) -> tuple[Results, Path]:
    """The same with an agent of NDH."""
    assert config.run_dir is not None
    agent, _, episodes, run = open_dialog_agent(
        config.run_dir,
        config.split,
        snapshot=config.snapshot,
        data_dir=config.data_dir,
        device=config.device,
    )
    return walk_dialog_split(agent, episodes, config.batch_size), run.data_dir
