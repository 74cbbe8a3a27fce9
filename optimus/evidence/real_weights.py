"""Train and score every row with real weights, one after the other, and write their record.

    python evidence/real_weights.py --weights weights --data data --runs runs/real_weights
    python evidence/real_weights.py --only 'tatoeba_0.50*' --seeds 42 43 44

A row is a preset ``real-*``. What is finished is not done again and an unfinished run goes on, so
the same command continues after any stop. The minutes of the table are estimates from 3 CPU seconds
for a step of 16 Tatoeba sentences. The record goes to ``--record`` after each row.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu

from optimus import SentenceVAE
from optimus.runtime.files import json_text
from optimus.runtime.text_files import read_texts

SENTENCES, SAMPLES, SHOWN = 200, 50, 8
METRICS = {
    "perplexity_word": "PPL of words",
    "iw_nll": "IW NLL",
    "elbo": "-ELBO",
    "kl": "KL",
    "mi": "MI",
    "au": "AU",
    "reconstruction": "reconstruction",
    "nll": "NLL",
    "bleu": "BLEU",
    "exact": "exact",
    "first_words": "first two words",
}


class Row(NamedTuple):
    """A row of the table: its preset is ``real-PRESET``."""

    preset: str
    data: str
    minutes: int  # of CPU for one seed, scoring included: estimated from 3 s a step of 16 sentences
    scratch: bool = False  # a small VAE from scratch, its preset is PRESET itself


ROWS = (
    Row("tatoeba-lm", "Tatoeba", 20),
    Row("tatoeba-0.05", "Tatoeba", 30),
    Row("tatoeba-0.50", "Tatoeba", 30),
    Row("tatoeba-0.50-fresh", "Tatoeba", 30),
    Row("tatoeba-0.50-random", "Tatoeba", 30),
    Row("tatoeba-0.50-frozen", "Tatoeba", 20),
    Row("tatoeba-0.50-lora", "Tatoeba", 20),
    Row("tatoeba-0.50-one-lr", "Tatoeba", 30),
    Row("small-tatoeba-0.50", "Tatoeba", 25, scratch=True),
    Row("snli-sentences-lm", "SNLI", 20),
    Row("snli-sentences-0.05", "SNLI", 35),
    Row("snli-sentences-0.50", "SNLI", 35),
    Row("penn-lm", "PTB", 30),
    Row("penn-0.05", "PTB", 55),
    Row("yelp-lm", "Yelp", 20),
    Row("yelp-0.05", "Yelp", 30),
    Row("pretrain", "", 60),
    Row("tatoeba-0.50-pretrained", "Tatoeba", 30),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is asked for; print each row as it ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--encoder", default="minilm-l6", help="folder below --weights")
    parser.add_argument("--decoder", default="smollm2-135m", help="folder below --weights")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--runs", type=Path, default=Path("runs/real_weights"))
    parser.add_argument("--record", type=Path, default=Path("evidence/real_weights.toml"))
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of rows")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    options = parser.parse_args(argv)
    rows = [row for row in ROWS if any(fnmatch.fnmatch(row.preset, one) for one in options.only)]
    if not rows:
        sys.exit(f"--only {' '.join(options.only)} fits no row of {[row.preset for row in ROWS]}")
    if options.dry_run:
        minutes = sum(row.minutes for row in rows) * len(options.seeds)
        print(*(f"{row.preset:28} {row.minutes:3} CPU minutes" for row in rows), sep="\n")
        print(f"{minutes} CPU minutes for {len(options.seeds)} seed(s)")
        return
    for row in rows:
        for seed in options.seeds:
            try:
                scores = run_row(row, seed, options)
            except subprocess.CalledProcessError as error:
                sys.exit(f"{row.preset}, seed {seed}: a command ended with {error.returncode}")
            print(row.preset, seed, json_text(scores), flush=True)
        write_record(options.record, options.runs, options.seeds)


def run_row(row: Row, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train, score and reconstruct; what a former call has finished is read."""
    run_dir = options.runs / row.preset / str(seed)
    done = run_dir / "row.json"
    if done.is_file():
        return json.loads(done.read_text())
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    used = cpu_seconds()
    subprocess.run(training(row, seed, run_dir, options), check=True, env=environment)
    scores: dict[str, Any] = {"train_cpu_seconds": cpu_seconds() - used}
    if row.data:
        words = ["evaluate", "--run-dir", str(run_dir), "--samples", str(SAMPLES)]
        words += ["--max-sentences", str(SENTENCES), "--precision", "bf16"]
        command = [sys.executable, "-m", "optimus", *words]
        subprocess.run(command, check=True, env=environment)
        (results,) = run_dir.glob("eval_results*.json")
        scores |= json.loads(results.read_text())
        scores |= reconstructions(run_dir, corpus_of(row, options))
    scores["cpu_seconds"] = cpu_seconds() - used
    done.write_text(json_text(scores, indent=2) + "\n")
    shutil.rmtree(run_dir / "checkpoints")  # 2 GB with the optimizer; the weights are in model/
    return scores


def training(row: Row, seed: int, run_dir: Path, options: argparse.Namespace) -> list[str]:
    """The command of one row."""
    preset = row.preset if row.scratch else f"real-{row.preset}"
    words = [sys.executable, "-m", "optimus", "train", preset, "--run-dir", str(run_dir)]
    words += ["--seed", str(seed)]
    if row.preset.endswith("pretrained"):
        pretrained = options.runs / "pretrain" / str(seed) / "model"
        words += ["--model.init", str(pretrained)]
    elif not row.scratch:
        words += ["--model.init", *(str(options.weights / one) for one in networks(options))]
    return [*words, "--data.folder", str(corpus_of(row, options))]


def networks(options: argparse.Namespace) -> tuple[str, str]:
    return options.encoder, options.decoder


def corpus_of(row: Row, options: argparse.Namespace) -> Path:
    """The folder of a row's corpus."""
    names = {"Tatoeba": "tatoeba", "SNLI": "snli-sentences", "PTB": "penn", "Yelp": "yelp"}
    return options.data / names.get(row.data, "unlabelled")


def reconstructions(run_dir: Path, corpus: Path) -> dict[str, Any]:
    """Greedy reconstructions from the posterior mean of the first test sentences.

    BLEU-4 is of each sentence against its original, in per cent; ``exact`` and ``first_words`` are
    the shares that are the same, whole and in their first two words.
    """
    vae = SentenceVAE.from_pretrained(run_dir)
    if vae.model.encoder is None:
        return {}
    lines = [line for line in read_texts(corpus / "test.txt") if line.strip()][:SENTENCES]
    texts = [line.partition("\t")[2] or line for line in lines]
    made = vae.reconstruct(texts)
    pairs = [(text.split(), other.split()) for text, other in zip(texts, made, strict=True)]
    smooth = SmoothingFunction().method1
    bleu = corpus_bleu([[text] for text, _ in pairs], [one for _, one in pairs],
                       smoothing_function=smooth)  # fmt: skip
    return {
        "bleu": 100 * bleu,
        "exact": 100 * statistics.mean(text == one for text, one in pairs),
        "first_words": 100 * statistics.mean(text[:2] == one[:2] for text, one in pairs),
        "examples": [f"{text} -> {other}" for text, other in zip(texts, made, strict=True)][:SHOWN],
    }


def cpu_seconds() -> float:
    """CPU time of the commands that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def write_record(path: Path, runs: Path, seeds: Sequence[int]) -> None:
    """The rows that are finished, as a record of evidence."""
    lines = [
        "# MiniLM and SmolLM2 with a latent between them, on two CPU cores.",
        "",
        "[[record]]",
        'id = "real-weights"',
        'title = "Real weights: MiniLM (6 layers) and SmolLM2 (135 M)"',
        'command = "python evidence/real_weights.py"',
        'preset = "real-*"',
        f'commit = "{commit()}"',
        f'date = "{time.strftime("%Y-%m-%d")}"',
        f'seeds = "{", ".join(map(str, seeds))}"',
        'machine = "two cores of a shared x86-64 machine"',
        f'protocol = "the first {SENTENCES} test sentences, K = {SAMPLES}, networks in bf16; '
        "mean and, of several seeds, sample standard deviation; BLEU, exact and first two words in "
        'per cent, of greedy reconstructions from the mean"',
        'differs = "other networks and corpora than the paper\'s"',
        f"data = {json_text(sorted({row.data for row in ROWS if row.data}))}",
        'units = { "-ELBO" = "nats", "IW NLL" = "nats", KL = "nats", MI = "nats" }',
    ]
    for row in ROWS:
        files = [runs / row.preset / str(seed) / "row.json" for seed in seeds]
        found = [json.loads(file.read_text()) for file in files if file.is_file()]
        if row.data and found:
            lines += ["", "[[record.row]]", f'name = "{row.preset}"', cells(row.data, found)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def cells(data: str, found: Sequence[Mapping[str, Any]]) -> str:
    """``DATA = { METRIC = CELL, ... }`` of one row, over its seeds."""
    parts = [
        f'"CPU minutes" = {statistics.mean(one["train_cpu_seconds"] for one in found) / 60:.0f}'
    ]
    for key, name in METRICS.items():
        values = [float(one[key]) for one in found if key in one]
        if len(values) == 1:
            parts.append(f'"{name}" = {values[0]:.2f}')
        elif values:
            spread = statistics.stdev(values)
            mean = statistics.mean(values)
            parts.append(f'"{name}" = {{ value = {mean:.2f}, spread = {spread:.2f} }}')
    return f"{data} = {{ {', '.join(parts)} }}"


def commit() -> str:
    """The commit of the tree that this file is in."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
