"""``prevalent evaluate``: score a result file of R2R, NDH or HANNA."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .config import default_data_dir
from .data.results import Task, check_results, read_references, read_results
from .data.scores import score_results
from .metrics.dialog import PathType
from .runtime.command import parse
from .runtime.files import write_atomically
from .simulator.connectivity import load_graphs


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a result file against the official annotations."""

    results: Path
    """JSON list of results, as the task's leaderboard takes it."""
    split: str = "val_unseen"
    """Split that the results answer."""
    task: Task = "r2r"
    """Room-to-Room, Navigation from Dialog History, or HANNA."""
    data_dir: Path = field(default_factory=default_data_dir)
    """Folder with connectivity/ and r2r/, ndh/ or hanna/."""
    path_type: PathType = "trusted_path"
    """NDH: whose path is right (planner = Oracle, player = Navigator, trusted = Mixed)."""
    allow_missing: bool = False
    """Score a part of the split."""
    allow_jumps: bool = False
    """Accept steps between viewpoints that share no edge."""
    row: str = ""
    """Row of the published tables to stand beside in the report."""
    output: Path | None = None
    """Also write the scores to this JSON file."""


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent evaluate --results FILE --split val_seen``."""
    config = parse(EvaluateConfig, argv, "prevalent evaluate")
    scores = evaluate(config)
    width = max(map(len, scores))
    print("\n".join(f"{name:<{width}}  {value:.4f}" for name, value in scores.items()))
    if config.output is not None:
        write_evaluation(config.output, config, scores)


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Scores of ``config.results``; see the metrics for names and units."""
    references = read_references(config.data_dir, config.task, config.split)
    results = read_results(config.results, config.task)
    graphs = load_graphs(
        config.data_dir / "connectivity", sorted({reference.scan for reference in references})
    )
    check_results(
        results,
        references,
        graphs,
        config.task,
        allow_missing=config.allow_missing,
        allow_jumps=config.allow_jumps,
    )
    return score_results(results, references, graphs, config.task, path_type=config.path_type)


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
