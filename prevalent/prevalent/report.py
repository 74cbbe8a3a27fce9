"""``prevalent report``: every published figure beside ours, recorded or of the runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from .data.records import LARGEST, read_json
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
WALK_SCORES = {
    "TL": ("lengths", 1.0),
    "NE": ("nav_error", 1.0),
    "SR": ("success_rate", 100.0),
    "SPL": ("spl", 100.0),
}
FAITHFUL = {"nDTW": ("ndtw", 100.0), "SDTW": ("sdtw", 100.0), "CLS": ("cls", 100.0)}
MORE_SCORES = {
    "r2r": {},
    **dict.fromkeys(("r4r", "rxr", "rxr-en", "rxr-hi", "rxr-te"), FAITHFUL),
    "reverie": {"RGS": ("rgs", 100.0), "RGSPL": ("rgspl", 100.0)},
    "soon": {"found": ("found_rate", 100.0), "SFPL": ("found_spl", 100.0)},
}
"""Scores of each data set of walks beside those of all."""
# (task, metric) -> (score of an evaluation, factor to the unit of the table)
SCORES = {
    **{
        (data, metric): score
        for data, more in MORE_SCORES.items()
        for metric, score in {**WALK_SCORES, **more}.items()
    },
    ("ndh", "Oracle"): ("dist_to_end_reduction", 1.0),
    ("ndh", "Navigator"): ("dist_to_end_reduction", 1.0),
    ("ndh", "Mixed"): ("dist_to_end_reduction", 1.0),
    ("hanna", "SR"): ("success_rate", 100.0),
    ("hanna", "SPL"): ("spl", 100.0),
    ("hanna", "NE"): ("error", 1.0),
    ("hanna", "requests"): ("queries_per_ep", 1.0),
}
PATH_TYPES = {"Oracle": "planner_path", "Navigator": "player_path", "Mixed": "trusted_path"}
HIDDEN = ("r2r", "reverie", "soon", "ndh")
"""Tasks whose leaderboards keep the goals of the split test."""
OTHERWISE = ("allow_jumps", "one_text")
"""Settings of an evaluation that no published figure has."""
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
            content = read_json(path, "evaluate again")
        except (ValueError, OSError) as error:
            notes.append(f"{error}.")
            continue
        if not _is_evaluation(content):
            notes.append(f"{path} is no evaluation of this program; it is left out.")
        elif content["task"] in HIDDEN and content["split"].partition("@")[0] == "test":
            notes.append(
                f"{path} is of a split whose goals are hidden, so that its scores mean nothing; it "
                "is left out: the leaderboard scores what `prevalent submit` writes."
            )
        else:
            found.append((path.relative_to(runs).as_posix(), content))
    return found, notes


def _is_evaluation(content: Any) -> bool:
    """Whether ``content`` names a task and a split, and scores that are numbers or null."""
    if not isinstance(content, dict) or not isinstance(content.get("scores"), dict):
        return False
    numbers = (one for one in content["scores"].values() if one is not None)
    return (
        content.get("task") in [task for task, _ in SCORES]
        and isinstance(content.get("split"), str)
        and all(isinstance(one, int | float) and abs(one) <= LARGEST for one in numbers)
    )


def results_of(
    place: str, evaluation: Mapping[str, Any], figures: Sequence[Figure]
) -> Iterator[Result]:
    """The scores of one evaluation, each beside the figure of its `prevalent evaluate --row`."""
    about = evaluation.get("provenance")
    trial = bool({**evaluation, **(about if isinstance(about, dict) else {})}.get("trial"))
    settings = about.get("settings") if isinstance(about, dict) else None
    otherwise = [name for name in OTHERWISE if isinstance(settings, dict) and settings.get(name)]
    differs = f"evaluated with --{otherwise[0].replace('_', '-')}" if otherwise else ""
    task, split, row = evaluation["task"], evaluation["split"], evaluation.get("row")
    told = False
    for figure in figures:
        if SPLITS.get(figure.data) != (task, split) or figure.row != row:
            continue
        name, factor = SCORES[task, figure.metric]
        path_type = PATH_TYPES.get(figure.metric)
        if path_type and evaluation.get("path_type") != path_type:
            continue
        if evaluation["scores"].get(name) is not None:
            told = True
            yield Result(
                row=str(row),
                data=figure.data,
                metric=figure.metric,
                value=_rounded(factor * evaluation["scores"][name]),
                unit=figure.unit,
                table=figure.table,
                published=figure.row,
                differs=TRIAL if trial else differs,
                evidence=place,
                trial=trial,
            )
    if told:
        return
    for (of, metric), (name, factor) in SCORES.items():
        known = evaluation["scores"].get(name) is not None
        if of == task and known and metric not in ("Navigator", "Mixed"):
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
