"""``prevalent evaluate``: score a trained agent, or a result file of R2R, NDH or HANNA."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from .agents.assistance_runs import open_assistance_agent, score_searches, search_tasks
from .agents.dialog_runs import open_dialog_agent, score_dialog_walks, walk_dialog_split
from .agents.runs import Walking, open_agent, walk_agent
from .agents.validation import Mixture, score_walks
from .config import default_data_dir
from .data.results import Task, check_results, read_references, read_results
from .data.scores import score_results
from .dialog_options import NDHRun
from .metrics.dialog import PathType
from .runtime.command import parse
from .runtime.files import write_atomically
from .runtime.rundir import read_config
from .simulator.connectivity import load_graphs

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
