"""Few labels: h_[CLS] of a plain encoder against that of the same encoder in sentence VAEs.

    python evidence/low_resource.py --weights weights --glue data/glue \\
        --optimus runs/real_weights/tatoeba-0.50/42 runs/real_weights/pretrain/42 \\
        --yelp data/yelp_sentiment --runs runs/real_low_resource

Every row is a command `optimus train-classifier`, whose trials draw labels of their own. On the
fixed encoder a linear map is trained for 100 epochs, fine-tuning is 60 steps, each in --trials
trials. All encoders have the same tokenizer, pooling and labels. What is finished is read, an
unfinished row goes on. Prints tables in per cent: means and sample standard deviations, then the
VAEs' gains over the plain encoder, trial by trial, with 95 % intervals; --table prints what is
there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from scipy.stats import t

from optimus.runtime.published import markdown_table
from optimus.runtime.text_files import read_texts

TESTED = 1000  # sentences of each class of Yelp
RATES = {"feature": "1e-2", "finetune": "1e-4"}
COUNTS = (1, 10, 100, 1000)
LENGTH = {"feature": ("--max-steps", "0", "--epochs", "100"), "finetune": ("--max-steps", "60")}


class Row(NamedTuple):
    """One command."""

    task: str  # sst2 or yelp
    encoder: str  # plain, or the name of a VAE
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
    parser.add_argument(
        "--optimus", type=Path, nargs="+", required=True, help="runs with the same networks"
    )
    parser.add_argument("--glue", type=Path, default=Path("data/glue"))
    parser.add_argument("--yelp", type=Path, default=Path("data/yelp_sentiment"))
    parser.add_argument("--runs", type=Path, default=Path("runs/real_low_resource"))
    parser.add_argument("--modes", nargs="+", choices=tuple(RATES), default=tuple(RATES))
    parser.add_argument("--tasks", nargs="+", choices=("sst2", "yelp"), default=("sst2", "yelp"))
    parser.add_argument("--trials", type=int, default=10, help="each with a seed, from 1 on")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args(argv)
    if options.trials < 2:
        parser.error("--trials must be at least 2: the spread is told")
    if len({"plain", *vaes(options)}) <= len(options.optimus):
        parser.error("--optimus: a row is named after the folder above its run; two are alike")
    rows = list(choose(options))
    if not options.table:
        for row in rows:
            train(row, options)
    print(table(rows, options))


def choose(options: argparse.Namespace) -> Iterator[Row]:
    for mode in options.modes:
        for task in options.tasks:
            for encoder in ("plain", *vaes(options)):
                yield Row(task, encoder, mode, RATES[mode])


def vaes(options: argparse.Namespace) -> dict[str, Path]:
    """The runs by the names of their rows: ``runs/real_weights/pretrain/42`` is pretrain."""
    return {run_dir.parent.name: run_dir for run_dir in options.optimus}


def seeds(options: argparse.Namespace) -> range:
    """Of the trials: of the draw of labels, the head and the order."""
    return range(1, options.trials + 1)


def train(row: Row, options: argparse.Namespace) -> None:
    """Train and score all trials of a row."""
    init = [options.weights / options.encoder, options.weights / options.decoder]
    if row.encoder != "plain":
        init = [vaes(options)[row.encoder] / "model"]
    # a preset of both tasks: its latent has the 32 dimensions of the runs
    words = ["train-classifier", "sst2-bert-finetune", "--mode", row.mode]
    words += ["--run-dir", options.runs / row.name, "--model.init", *init]
    words += ["--optimizer.lr", row.rate, *LENGTH[row.mode]]
    if row.encoder == "plain":
        words += ["--model.pooling", "mean"]
    words += ["--counts", *COUNTS, "--sample-seed", "None"]
    words += ["--seeds", *seeds(options), "--save-every", "100000"]
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
    """The accuracies, and their differences from the plain encoder's, in per cent."""
    found = {row: accuracies(row, options) for row in rows}
    cells, gains = [], []
    for row, trials in found.items():
        if not trials:
            continue
        cells.append([*row, *(shown(values, stdev(values)) for values in trials.values())])
        plain = found[row._replace(encoder="plain")]
        if row.encoder != "plain" and plain:
            gains.append([*row, *(gain(plain[count], trials[count]) for count in COUNTS)])
    header = ["task", "encoder", "mode", "rate", *map(str, COUNTS)]
    return f"{markdown_table(header, cells)}\n\n{markdown_table(header, gains)}"


def accuracies(row: Row, options: argparse.Namespace) -> dict[int, list[float]]:
    """Of every trial by number of labels; empty where the row is not finished."""
    folder = options.runs / row.name
    files = {
        count: [
            folder / f"count_{count}_seed_{seed}" / "eval_results.json" for seed in seeds(options)
        ]
        for count in COUNTS
    }
    if not all(file.is_file() for trials in files.values() for file in trials):
        return {}
    return {
        count: [json.loads(file.read_text())["accuracy"] for file in trials]
        for count, trials in files.items()
    }


def gain(plain: Sequence[float], other: Sequence[float]) -> str:
    """Mean difference of the trials with the half width of Student's 95 % interval."""
    differences = [after - before for before, after in zip(plain, other, strict=True)]
    number = len(differences)
    half = t.ppf(0.975, number - 1) * stdev(differences) / number**0.5
    return shown(differences, float(half))


def shown(values: Sequence[float], spread: float) -> str:
    return f"{100 * fmean(values):.1f} ± {100 * spread:.1f}"


if __name__ == "__main__":
    main()
