"""``prevalent report``: every published figure beside ours, recorded or of the runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from .runtime.command import parse
from .runtime.comparison import Comparison
from .runtime.published import Figure, Result, find_folder, read_published
from .runtime.report import ReportConfig, open_comparison, write_report

# data set of a table -> (task, split) of an evaluation
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
    ("ndh", "Oracle"): ("dist_to_end_reduction", 1.0),
    ("ndh", "Navigator"): ("dist_to_end_reduction", 1.0),
    ("ndh", "Mixed"): ("dist_to_end_reduction", 1.0),
    ("hanna", "SR"): ("success_rate", 100.0),
    ("hanna", "SPL"): ("spl", 100.0),
    ("hanna", "NE"): ("error", 1.0),
    ("hanna", "requests"): ("queries_per_ep", 1.0),
}
PATH_TYPES = {"Oracle": "planner_path", "Navigator": "player_path", "Mixed": "trusted_path"}
TRIAL = "a trial: fewer episodes than the split"


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent report``."""
    config = parse(ReportConfig, argv, "prevalent report")
    write_report(config, comparison(config), "PREVALENT")


def comparison(config: ReportConfig) -> Comparison:
    """The paper's tables with ours from evidence/ and from the evaluations below ``config.runs``.

    Raises:
        FileNotFoundError: there are no published figures.
    """
    figures = read_published(config.published or find_folder("published"))
    evaluations, notes = read_evaluations(config.runs)
    results = [result for place, one in evaluations for result in results_of(place, one, figures)]
    return open_comparison(config, results, notes)


def read_evaluations(runs: Path) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """The ``evaluation*.json`` below ``runs``, and a sentence for each that is none of ours."""
    found, notes = [], []
    for path in sorted(runs.rglob("evaluation*.json")):
        try:
            content = json.loads(path.read_text())
        except ValueError as error:
            notes.append(f"{path} is damaged ({error}); evaluate again.")
            continue
        scores = content.get("scores") if isinstance(content, dict) else None
        if not isinstance(scores, dict) or not {"task", "split"} <= set(content):
            notes.append(f"{path} is no evaluation of this program; it is left out.")
            continue
        found.append((path.relative_to(runs).as_posix(), content))
    return found, notes


def results_of(
    place: str, evaluation: Mapping[str, Any], figures: Sequence[Figure]
) -> Iterator[Result]:
    """The scores of one evaluation, each beside the figure of the row that it names (``--row``)."""
    about = evaluation.get("provenance")
    trial = bool({**evaluation, **(about if isinstance(about, dict) else {})}.get("trial"))
    task, split, row = evaluation["task"], evaluation["split"], evaluation.get("row")
    told = False
    for figure in figures:
        if SPLITS.get(figure.data) != (task, split) or figure.row != row:
            continue
        name, factor = SCORES[task, figure.metric]
        path_type = PATH_TYPES.get(figure.metric)
        if path_type and evaluation.get("path_type") != path_type:
            continue
        if name in evaluation["scores"]:
            told = True
            yield Result(
                row=str(row),
                data=figure.data,
                metric=figure.metric,
                value=_rounded(factor * evaluation["scores"][name]),
                unit=figure.unit,
                table=figure.table,
                published=figure.row,
                differs=TRIAL if trial else "",
                evidence=place,
                trial=trial,
            )
    if told:
        return
    for (of, metric), (name, factor) in SCORES.items():
        if of == task and name in evaluation["scores"] and metric not in ("Navigator", "Mixed"):
            yield Result(
                row=str(row or Path(place).parent),
                data=f"{task} {split}",
                metric="goal progress" if task == "ndh" else metric,
                value=_rounded(factor * evaluation["scores"][name]),
                differs="it names no published row",
                evidence=place,
                trial=trial,
            )


def _rounded(value: float) -> Decimal:
    return Decimal(str(round(value, 3)))
