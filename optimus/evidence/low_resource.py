"""Few labels: h_[CLS] of a plain encoder against that of the same encoder in a sentence VAE.

    python evidence/low_resource.py --weights weights --optimus runs/real_weights/tatoeba-0.50/42 \\
        --glue data/glue --yelp data/yelp_sentiment --runs runs/real_low_resource

Every row is a command `optimus train-classifier`, whose ten trials draw labels of their own. On the
fixed encoder a linear map is trained for 100 epochs, at each of two learning rates; fine-tuning is
of three trials. Both encoders have the same tokenizer, pooling and labels. What is finished is
read, an unfinished row goes on. Prints a table in per cent; --table prints what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from optimus.runtime.published import markdown_table
from optimus.runtime.text_files import read_texts

TESTED = 1000  # sentences of each class of Yelp
RATES = {"feature": ("1e-2", "1e-3"), "finetune": ("1e-4",)}
COUNTS = {"feature": (1, 10, 100, 1000), "finetune": (10, 100)}
TRIALS = {"feature": 10, "finetune": 3}
LENGTH = {"feature": ("--epochs", "100"), "finetune": ("--max-steps", "60")}


class Row(NamedTuple):
    """One command."""

    task: str  # sst2 or yelp
    encoder: str  # plain or optimus
    mode: str  # feature or finetune
    rate: str

    @property
    def name(self) -> str:
        return "-".join(self)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--encoder", default="minilm-l6", help="folder below --weights")
    parser.add_argument("--decoder", default="smollm2-135m", help="folder below --weights")
    parser.add_argument("--optimus", type=Path, required=True, help="run with the same networks")
    parser.add_argument("--glue", type=Path, default=Path("data/glue"))
    parser.add_argument("--yelp", type=Path, default=Path("data/yelp_sentiment"))
    parser.add_argument("--runs", type=Path, default=Path("runs/real_low_resource"))
    parser.add_argument("--modes", nargs="+", choices=tuple(RATES), default=tuple(RATES))
    parser.add_argument("--tasks", nargs="+", choices=("sst2", "yelp"), default=("sst2", "yelp"))
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args(argv)
    rows = list(choose(options))
    if not options.table:
        for row in rows:
            train(row, options)
    print(table(rows, options))


def choose(options: argparse.Namespace) -> Iterator[Row]:
    for mode in options.modes:
        for task in options.tasks:
            for rate in RATES[mode]:
                for encoder in ("plain", "optimus"):
                    yield Row(task, encoder, mode, rate)


def train(row: Row, options: argparse.Namespace) -> None:
    """Train and score all trials of a row."""
    weights = [options.weights / options.encoder, options.weights / options.decoder]
    init = [options.optimus / "model"] if row.encoder == "optimus" else weights
    preset = "sst2-bert-finetune" if row.task == "sst2" else "smoke"
    words = ["train-classifier", preset, "--mode", row.mode, "--run-dir", options.runs / row.name]
    words += ["--model.init", *init, "--optimizer.lr", row.rate, *LENGTH[row.mode]]
    if row.encoder == "plain":
        words += ["--model.pooling", "mean"]
    words += ["--counts", *COUNTS[row.mode], "--sample-seed", "None"]
    words += ["--seeds", *range(1, TRIALS[row.mode] + 1), "--save-every", "100000"]
    words += ["--data.batch-size", "32", "--data.max-tokens", "64", *texts(row.task, options)]
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    command = [sys.executable, "-m", "optimus", *map(str, words)]
    subprocess.run(command, check=True, env=environment)


def texts(task: str, options: argparse.Namespace) -> list[str]:
    """Options of the texts; of Yelp's test set the first ``TESTED`` sentences of each class."""
    if task == "sst2":
        return ["--data.folder", str(options.glue)]
    options.runs.mkdir(parents=True, exist_ok=True)
    for label in "01":
        lines = read_texts(options.yelp / f"sentiment.test.{label}")[:TESTED]
        (options.runs / f"yelp_test.{label}").write_text("\n".join(lines) + "\n", "utf-8")
    train, test = options.yelp / "sentiment.dev", options.runs / "yelp_test"
    return ["--data.task", "labeled", "--data.folder", str(train), "--data.test", str(test)]


def table(rows: Sequence[Row], options: argparse.Namespace) -> str:
    """Mean accuracy of the trials and its sample standard deviation, in per cent."""
    cells = []
    for row in rows:
        file = options.runs / row.name / "eval_results.json"
        if not file.is_file():
            continue
        found = {one["amount"]: one for one in json.loads(file.read_text())["rows"]}
        cells.append([*row])
        for count in sorted({*COUNTS["feature"], *COUNTS["finetune"]}):
            one = found.get(count)
            cells[-1].append(shown(one["accuracy"], one["accuracy_deviation"]) if one else "")
    counts = sorted({*COUNTS["feature"], *COUNTS["finetune"]})
    return markdown_table(["task", "encoder", "mode", "rate", *map(str, counts)], cells)


def shown(mean: float, deviation: float) -> str:
    return f"{100 * mean:.1f} ± {100 * deviation:.1f}"


if __name__ == "__main__":
    main()
