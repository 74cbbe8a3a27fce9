"""``optimus report``: every published figure beside ours, recorded or of the runs."""

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
    "Accuracy": "conditional_accuracy",
    "BLEU": "conditional_bleu",
    "self-BLEU": "self_bleu",
    "score": "score",
}
TRIAL = "a trial: fewer sentences or samples than the protocol"
# a table whose protocol no task of ours has -> what ours is instead
OTHERWISE = {
    "Table 6": "samples of CARA; the paper has a conditional GAN on a fixed latent space",
    "Table 7": "one learning rate, the paper has the best of four; QQP, MRPC, STS-B: another score",
}


def main(argv: Sequence[str]) -> None:
    """Run ``optimus report``."""
    config = parse(ReportConfig, argv, "optimus report")
    write_report(config, comparison(config), "Optimus")


def comparison(config: ReportConfig) -> Comparison:
    """The paper's tables with ours from evidence/ and from the evaluations below ``config.runs``.

    Raises:
        FileNotFoundError: there are no published figures.
    """
    figures = read_published(config.published or find_folder("published"))
    evaluations, notes = read_evaluations(config.runs)
    results = [
        result
        for place, scores in evaluations.items()
        for result in results_of(place, scores, figures)
    ]
    return open_comparison(config, results, notes)


def read_evaluations(runs: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Evaluations below ``runs`` by their place there, and a sentence for each that is none."""
    found: dict[str, dict[str, Any]] = {}
    notes = []
    for path in sorted([*runs.rglob("eval_results.json"), *runs.rglob("eval_results.trial.json")]):
        try:
            scores = json.loads(path.read_text())
        except ValueError as error:
            notes.append(f"{path} is damaged ({why(error)}); run `optimus evaluate` again.")
            continue
        if not isinstance(scores, dict):
            notes.append(f"{path} is no evaluation of this program; it is left out.")
            continue
        found[path.relative_to(runs).as_posix()] = scores
    return found, notes


def results_of(
    place: str, scores: Mapping[str, Any], figures: Sequence[Figure]
) -> Iterator[Result]:
    """The scores of one evaluation, each beside the figure that its script is to give."""
    about = scores.get("provenance")
    about = about if isinstance(about, dict) else {}
    run, trial = Path(place).parent.as_posix(), bool(about.get("trial")) or ".trial." in place
    row = f"{run} ({about['kind']})" if "kind" in about else run
    for metric, key in KEYS.items():
        value = scores.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        own = [one for one in figures if one.metric == metric and run_of(one.script) == run]
        beside: list[Figure | None] = [*own] or [None]
        for figure in beside:
            yield Result(
                row=row,
                data=figure.data if figure else str(about.get("data", "")),
                metric=metric,
                value=Decimal(str(round(value, 4))),
                unit=figure.unit if figure else "",
                table=figure.table if figure else "",
                published=figure.row if figure else "",
                differs=TRIAL if trial else why_not(figure),
                evidence=place,
                trial=trial,
            )


def why_not(figure: Figure | None) -> str:
    """Why an evaluation does not compare with ``figure``; empty if it does."""
    return OTHERWISE.get(figure.table, "") if figure else "no published row"


def run_of(script: str) -> str:
    """The run that a script writes: scripts/A/B.sh -> A/B."""
    return script.removeprefix("scripts/").removesuffix(".sh")
