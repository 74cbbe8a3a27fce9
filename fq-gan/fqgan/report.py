"""``fqgan report``: every published figure beside ours, recorded or of the runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from .runtime.command import parse
from .runtime.comparison import Comparison
from .runtime.files import why
from .runtime.published import Figure, Result, find_folder, read_published
from .runtime.report import ReportConfig, open_comparison, write_report

# name of a metric in the tables -> key of an evaluation
KEYS = {"FID": "fid", "IS": "inception_score", "KID x 100": "kid_x100"}
TRIAL = "a trial: fewer samples than the protocol"


def main(argv: Sequence[str]) -> None:
    """Run ``fqgan report``."""
    config = parse(ReportConfig, argv, "fqgan report")
    write_report(config, comparison(config), "FQ-GAN")


def comparison(config: ReportConfig) -> Comparison:
    """The paper's tables with ours from evidence/ and from the evaluations below ``config.runs``.

    Raises:
        FileNotFoundError: there are no published figures.
    """
    figures = read_published(config.published or find_folder("published"))
    rows, notes = read_evaluations(config.runs)
    results = [result for place, row in rows for result in results_of(place, row, figures)]
    return open_comparison(config, results, notes)


def read_evaluations(runs: Path) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """The newest line of every run, protocol and data set, and a sentence for each that is none."""
    newest: dict[tuple[str, str, str], dict[str, Any]] = {}
    notes = []
    for path in sorted(runs.rglob("evaluations.jsonl")):
        place = path.relative_to(runs).as_posix()
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                notes.append(f"{path}:{number} is not JSON ({why(error)}); remove it.")
                continue
            if not isinstance(row, dict):
                notes.append(f"{path}:{number} is no evaluation of this program; it is left out.")
                continue
            newest[place, str(row.get("protocol")), str(row.get("data"))] = row
    return [(place, row) for (place, _, _), row in newest.items()], notes


def results_of(place: str, row: Mapping[str, Any], figures: Sequence[Figure]) -> Iterator[Result]:
    """The scores of one evaluation, each beside the figure that its script is to give.

    Another network's features, or fewer samples, give no figure of the paper's protocol. A run that
    translates both ways has a line for each, which the data set tells apart.
    """
    about = row.get("provenance")
    said = {**row, **about} if isinstance(about, dict) else dict(row)
    run, features = Path(place).parent.as_posix(), said.get("features")
    name = f"{run}, step {said['step']}" if "step" in said else run
    for metric, key in KEYS.items():
        value = row.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        own = [one for one in figures if one.metric == metric and run_of(one.script) == run]
        own = [one for one in own if one.data == said.get("data")] or own
        beside: list[Figure | None] = [*own] or [None]
        for figure in beside:
            yield Result(
                row=name,
                data=figure.data if figure else str(said.get("data", "")),
                metric=metric,
                value=Decimal(f"{value:.2f}"),
                table=figure.table if figure else "",
                published=figure.row if figure else "",
                differs=why_not(said, features, figure),
                evidence=place,
                trial=bool(said.get("trial")),
            )


def why_not(said: Mapping[str, Any], features: object, figure: Figure | None) -> str:
    """Why an evaluation does not compare with ``figure``; empty if it does."""
    told = ", ".join(str(said[key]) for key in ("features", "protocol") if key in said)
    if figure is None:
        return f"no published row ({told})"
    wanted = "inception-torch" if "torch-inception" in figure.protocol else "inception"
    if features != wanted:
        return f"{features} features, not {wanted}"
    if said.get("limit"):
        return f"of {said['limit']} images of the data, not of all"
    if said.get("split", "train") != "train" and figure.metric == "FID":
        return f"against the images of the split {said['split']}, not of train"
    truncated = [name for name in ("z_std", "truncation") if said.get(name, 1) != 1]
    if truncated:
        return f"with a {truncated[0]} of {said[truncated[0]]}, not 1"
    return TRIAL if said.get("trial") else ""


def run_of(script: str) -> str:
    """The run that a script writes: scripts/A/B.sh -> A/B."""
    return script.removeprefix("scripts/").removesuffix(".sh")
