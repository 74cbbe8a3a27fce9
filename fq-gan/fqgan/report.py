"""``fqgan report``: published figures with ours beside them, and all of our evaluations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .runtime.command import parse
from .runtime.published import Figure, markdown_table, read_published

# Names of the published metrics -> names in evaluations.jsonl.
METRICS = {"FID": "fid", "IS": "inception_score", "KID x 100": "kid_x100"}
NOT_RUN = "not run"


@dataclass(frozen=True)
class ReportConfig:
    """Print tables of published figures and ours as Markdown."""

    runs: str = "runs"
    """Folder with all runs."""
    published: str = str(Path(__file__).resolve().parents[1] / "published")
    """Folder with the published figures."""
    out: str = ""
    """File to write; empty prints."""


def main(argv: Sequence[str]) -> None:
    """Run ``fqgan report --runs runs``."""
    config = parse(ReportConfig, argv, "fqgan report")
    text = report(config)
    if config.out:
        Path(config.out).write_text(text)
    else:
        print(text)


def report(config: ReportConfig) -> str:
    """The tables as Markdown.

    Raises:
        FileNotFoundError: there are no published figures.
    """
    figures = read_published(config.published)
    if not figures:
        raise FileNotFoundError(
            f"--published {config.published} holds no figures; give the folder published/ of the "
            "source tree"
        )
    runs = Path(config.runs)
    parts = []
    for table in dict.fromkeys(figure.table for figure in figures):
        rows = [figure_row(figure, runs) for figure in figures if figure.table == table]
        header = ("row", "data", "metric", "published", "ours", "protocol", "confidence", "source")
        parts.append(f"## {table}\n\n{markdown_table(header, rows)}")
    ours = list(evaluation_rows(runs))
    if ours:
        header = ("run", "step", "data", "FID", "KID x 100", "IS", "samples", "features")
        note = "Rows of different features cannot be compared.\n\n"
        parts.append(f"## Our evaluations\n\n{note}{markdown_table(header, ours)}")
    return "\n".join(parts)


def figure_row(figure: Figure, runs: Path) -> tuple[str, ...]:
    """One published figure, with ours if its script was run and scored by the same protocol."""
    return (
        figure.row,
        figure.dataset,
        figure.metric,
        f"{figure.value:g}{figure.unit}",
        our_value(figure, runs),
        figure.protocol,
        figure.confidence,
        figure.source,
    )


def our_value(figure: Figure, runs: Path) -> str:
    """The newest value of the run that ``figure.script`` makes, or why there is none."""
    if not figure.script or figure.metric not in METRICS:
        return NOT_RUN
    run_dir = runs / Path(figure.script).relative_to("scripts").with_suffix("")
    evaluations = read_evaluations(run_dir / "evaluations.jsonl")
    if not evaluations:
        return NOT_RUN
    features = "inception-torch" if "torch-inception" in figure.protocol else "inception"
    same = [row for row in evaluations if row.get("features") == features]
    # A run that translates both ways has two rows, which the figure's data set tells apart.
    same = [row for row in same if row.get("data") == figure.dataset] or same
    if not same:
        return f"scored only with {evaluations[-1].get('features')} features: not comparable"
    value = same[-1].get(METRICS[figure.metric])
    return NOT_RUN if value is None else f"{value:.2f}"


def evaluation_rows(runs: Path) -> list[tuple[str, ...]]:
    """The newest evaluation of every run and protocol below ``runs``."""
    rows: list[tuple[str, ...]] = []
    for path in sorted(runs.rglob("evaluations.jsonl")):
        newest = {(row.get("protocol"), row.get("data")): row for row in read_evaluations(path)}
        for row in newest.values():
            rows.append(
                (
                    str(path.parent.relative_to(runs)),
                    str(row.get("step", "")),
                    str(row.get("data", row.get("samples", ""))),
                    _number(row.get("fid")),
                    _number(row.get("kid_x100")),
                    _number(row.get("inception_score")),
                    str(row.get("num_images", "")),
                    f"{row.get('features')}: {row.get('protocol')}",
                )
            )
    return rows


def read_evaluations(path: Path) -> list[dict[str, Any]]:
    """Rows of an ``evaluations.jsonl``, oldest first; none where there is no file."""
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise ValueError(f"{path} has a line that is not JSON ({error}); remove it") from error


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
