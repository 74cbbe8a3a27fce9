"""``prevalent report``: every published figure beside ours, from the evaluations of the runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .runtime.command import parse
from .runtime.files import write_atomically
from .runtime.published import Figure, markdown_table, read_published

NOT_RUN = "not run"
# (dataset of a published figure) -> (task, split) of an evaluation
SPLITS = {
    "R2R val seen": ("r2r", "val_seen"),
    "R2R val unseen": ("r2r", "val_unseen"),
    "R2R test": ("r2r", "test"),
    "CVDN val unseen": ("ndh", "val_unseen"),
    "CVDN test": ("ndh", "test"),
    "HANNA test SeenEnv": ("hanna", "test_seen"),
    "HANNA test UnseenAll": ("hanna", "test_unseen"),
}
# (task, metric) -> (score of an evaluation, factor to the unit of the table)
SCORES = {
    ("r2r", "TL"): ("lengths", 1.0),
    ("r2r", "NE"): ("nav_error", 1.0),
    ("r2r", "SR"): ("success_rate", 100.0),
    ("r2r", "SPL"): ("spl", 100.0),
    ("ndh", "goal progress"): ("dist_to_end_reduction", 1.0),
    ("hanna", "SR"): ("success_rate", 100.0),
    ("hanna", "SPL"): ("spl", 100.0),
    ("hanna", "NE"): ("error", 1.0),
    ("hanna", "requests"): ("queries_per_ep", 1.0),
}
PATH_TYPES = {"Oracle": "planner_path", "Navigator": "player_path", "Mixed": "trusted_path"}


@dataclass(frozen=True)
class ReportConfig:
    """Put the published figures and ours side by side as Markdown."""

    published: Path = Path("published")
    """Folder of the published figures."""
    runs: Path = Path("runs")
    """Folder searched for the evaluation*.json that `evaluate --row ... --output` writes."""
    output: Path | None = None
    """File to write; standard output if not given."""


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent report``."""
    config = parse(ReportConfig, argv, "prevalent report")
    text = report(config)
    if config.output is None:
        print(text)
    else:
        write_atomically(config.output, text)


def report(config: ReportConfig) -> str:
    """A table of all published figures; ours stands beside one where an evaluation names its row.

    Raises:
        FileNotFoundError: there are no published figures.
    """
    figures = read_published(config.published)
    if not figures:
        raise FileNotFoundError(f"--published {config.published} holds no *.toml with figures")
    evaluations = read_evaluations(config.runs)
    header = ["table", "row", "data", "metric", "published", "confidence", "ours"]
    rows = [
        [
            figure.table,
            figure.row,
            figure.dataset,
            figure.metric,
            f"{figure.value:g} {figure.unit}".strip(),
            figure.confidence,
            _ours(figure, evaluations),
        ]
        for figure in figures
    ]
    return "# Published figures and ours\n\n" + markdown_table(header, rows)


def read_evaluations(runs: Path) -> list[dict[str, Any]]:
    """Content of every ``evaluation*.json`` below ``runs``."""
    found = []
    for path in sorted(runs.rglob("evaluation*.json")):
        try:
            found.append(json.loads(path.read_text()))
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); evaluate again") from None
    return found


def _ours(figure: Figure, evaluations: Sequence[Mapping[str, Any]]) -> str:
    metric, _, supervision = figure.metric.partition(", ")
    task, split = SPLITS[figure.dataset]
    name, factor = SCORES[task, metric]
    for evaluation in evaluations:
        same = (evaluation["row"], evaluation["task"], evaluation["split"])
        if same != (figure.row, task, split) or name not in evaluation["scores"]:
            continue
        if supervision and evaluation["path_type"] != PATH_TYPES[supervision]:
            continue
        return f"{factor * evaluation['scores'][name]:.2f} {figure.unit}".strip()
    return NOT_RUN
