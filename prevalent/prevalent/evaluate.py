"""``prevalent evaluate``: score a result file of R2R, NDH or HANNA."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config import default_data_dir
from .data.results import (
    PATH_FIELDS,
    Reference,
    Task,
    check_results,
    read_references,
    read_results,
)
from .metrics.assistance import mean_assistance_scores, score_assistance
from .metrics.dialog import PathType, mean_dialog_scores, score_dialog
from .metrics.navigation import mean_scores, score_path
from .runtime.command import parse
from .runtime.files import write_atomically
from .simulator.connectivity import load_graphs
from .simulator.graph import Graphs


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


def score_results(
    results: Mapping[str, Mapping[str, Any]],
    references: Sequence[Reference],
    graphs: Graphs,
    task: Task = "r2r",
    *,
    path_type: PathType = "trusted_path",
) -> dict[str, float]:
    """Mean scores of checked results under the task's metric names."""
    views = {scan: graphs.by_name(scan) for scan in {reference.scan for reference in references}}
    present = [reference for reference in references if reference.id in results]

    def walk(reference: Reference) -> list[str]:
        return [step[0] for step in results[reference.id][PATH_FIELDS[task]]]

    if task == "r2r":
        return mean_scores(
            score_path(walk(one), one.item["path"], views[one.scan].distance) for one in present
        )
    if task == "ndh":
        return mean_dialog_scores(
            score_dialog(walk(one), one.item, views[one.scan].distance, path_type)
            for one in present
        )
    return mean_assistance_scores(
        score_assistance(
            results[one.id], [path[-1] for path in one.item["paths"]], views[one.scan].distance
        )
        for one in present
    )


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
