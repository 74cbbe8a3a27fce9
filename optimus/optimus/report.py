"""``optimus report``: every published figure beside ours, from the results of the runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .runtime.command import parse
from .runtime.files import write_atomically
from .runtime.published import Figure, markdown_table, read_published

# name of a metric in the tables -> key in eval_results.json
KEYS = {
    "PPL": "perplexity",
    "MI": "mi",
    "AU": "au",
    "-ELBO": "elbo",
    "KL": "kl",
    "Rec": "reconstruction",
    "BLEU recall": "bleu_recall",
    "BLEU precision": "bleu_precision",
    "BLEU F1": "bleu_f1",
    "Accuracy": "transfer_accuracy",
    "BLEU": "transfer_bleu",
    "G-score": "g_score",
    "self-BLEU": "self_bleu",
    "score": "score",
}
NOT_RUN = "not run"


@dataclass(frozen=True)
class ReportConfig:
    """Put the paper's figures and ours side by side as Markdown."""

    published: Path = Path("published")
    """Folder of the published figures."""
    runs: Path = Path("runs")
    """Folder of the runs: scripts/A/B.sh writes runs/A/B."""
    output: Path | None = None
    """File to write; standard output if absent."""


def main(argv: Sequence[str]) -> None:
    """Run ``optimus report``."""
    config = parse(ReportConfig, argv, "optimus report")
    text = report(config)
    if config.output is None:
        print(text)
    else:
        write_atomically(config.output, text)


def report(config: ReportConfig) -> str:
    """Two tables: published figures with ours or `not run`, and runs of which the paper has none.

    Raises:
        FileNotFoundError: there are no published figures.
    """
    figures = read_published(config.published)
    if not figures:
        raise FileNotFoundError(f"--published {config.published} holds no *.toml with figures")
    results = read_results(config.runs)
    compared = [_compare(figure, results) for figure in figures]
    header = ["table", "row", "data", "metric", "paper", "confidence", "ours", "script"]
    text = "# Published figures and ours\n\n" + markdown_table(header, compared)
    known = {run_of(figure.script) for figure in figures if figure.script}
    others = {run: scores for run, scores in results.items() if run not in known}
    if others:
        names = [name for name in KEYS if any(KEYS[name] in row for row in others.values())]
        rows = [
            [run, *(_shown(row.get(KEYS[name], "")) for name in names)]
            for run, row in others.items()
        ]
        text += "\n# Runs without a published figure\n\n" + markdown_table(["run", *names], rows)
    return text


def read_results(runs: Path) -> dict[str, dict[str, float]]:
    """Run, relative to ``runs`` -> content of its ``eval_results.json``."""
    results = {}
    for path in sorted(runs.rglob("eval_results.json")):
        try:
            results[path.parent.relative_to(runs).as_posix()] = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); run optimus evaluate again") from None
    return results


def run_of(script: str) -> str:
    """The run that a script writes: scripts/A/B.sh -> A/B."""
    return script.removeprefix("scripts/").removesuffix(".sh")


def _compare(figure: Figure, results: dict[str, dict[str, float]]) -> list[str]:
    scores = results.get(run_of(figure.script), {}) if figure.script else {}
    ours = scores.get(KEYS.get(figure.metric, ""))
    unit = f" {figure.unit}" if figure.unit else ""
    return [
        figure.table,
        figure.row,
        figure.dataset,
        figure.metric,
        f"{figure.value:g}{unit}",
        figure.confidence,
        NOT_RUN if ours is None else f"{_shown(ours)}{unit}",
        figure.script,
    ]


def _shown(value: float | str) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
