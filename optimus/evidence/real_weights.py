"""Train and score every row with real weights, one after the other, and write their record.

    python evidence/real_weights.py --weights weights --data data --runs runs/real_weights
    python evidence/real_weights.py --only 'tatoeba_0.50*' --seeds 42 43 44

A row is a preset ``real-*``. What is finished is not done again and an unfinished run goes on, so
the same command continues after any stop. A row that is to take as long as another one does as
many steps as fit into the CPU time of the other one. The record goes to ``--record`` after each
row; ``--curves FILE`` draws what the runs of Tatoeba logged (needs the extra `plots`).
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
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
from optimus.runtime.logs import read_metrics
from optimus.runtime.text_files import read_texts

TEXTS = ("train.txt", "test.txt")
SHOWN = 8  # reconstructions that are kept as examples
SHORT = 8  # words of a short sentence
FEW = 20  # short sentences, of which no share is told
SUBJECTS = frozenset(("i", "you", "he", "she", "it", "we", "they", "this", "that", "tom", "mary"))
TRIAL_STEPS = (20, 220)  # of two short runs that tell what a step costs
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
    "subject": "subject",
    "subject_by_chance": "subject by chance",
}


class Row(NamedTuple):
    """A row of the table: its preset is ``real-NAME`` where nothing else is said."""

    name: str
    data: str
    minutes: int  # of CPU for one seed, scoring included; as the scripts say, penn-lm estimated
    command: tuple[str, ...] = ()  # another preset, with its options
    as_long_as: str = ""  # the row whose CPU time it takes; then it is a small VAE from scratch


LABELS = {
    "tatoeba-0.05": "real weights",
    "small-tatoeba-0.05": "small, from scratch",
    "tatoeba-0.05-random": "the same networks, random weights",
    "tatoeba-0.50": "start from data",
    "tatoeba-0.50-fresh": "fresh connectors",
    "tatoeba-0.50-frozen": "decoder frozen",
    "tatoeba-0.50-lora": "LoRA",
    "tatoeba-0.50-one-lr": "one learning rate",
    "tatoeba-0.50-pretrained": "latent pre-training",
}
"""Of the curves."""
SMALL = ("small-tatoeba-0.50", "--objective.free-bits", "0.05")
ROWS = (
    Row("tatoeba-0.05", "Tatoeba", 20),
    Row("small-tatoeba-0.05", "Tatoeba", 15, SMALL, as_long_as="tatoeba-0.05"),
    Row("tatoeba-0.50", "Tatoeba", 20),
    Row("small-tatoeba-0.50", "Tatoeba", 15, SMALL[:1], as_long_as="tatoeba-0.50"),
    Row("tatoeba-lm", "Tatoeba", 15),
    Row("tatoeba-0.05-random", "Tatoeba", 20),
    Row("tatoeba-0.50-random", "Tatoeba", 20),
    Row("tatoeba-0.50-fresh", "Tatoeba", 20),
    Row("tatoeba-0.50-frozen", "Tatoeba", 20),
    Row("tatoeba-0.50-lora", "Tatoeba", 20),
    Row("tatoeba-0.50-one-lr", "Tatoeba", 20),
    Row("snli-sentences-lm", "SNLI", 15),
    Row("snli-sentences-0.05", "SNLI", 20),
    Row("snli-sentences-0.50", "SNLI", 20),
    Row("penn-lm", "PTB", 40),
    Row("penn-0.05", "PTB", 40),
    Row("yelp-lm", "Yelp", 15),
    Row("yelp-0.05", "Yelp", 20),
    Row("yelp-0.50", "Yelp", 20),
    Row("pretrain", "", 45),
    Row("tatoeba-0.50-pretrained", "Tatoeba", 20),
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
    parser.add_argument("--sentences", type=int, default=200, help="test sentences to score")
    parser.add_argument("--samples", type=int, default=50, help="K of the importance weighting")
    parser.add_argument("--curves", type=Path, help="picture of the training")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")
    options = parser.parse_args(argv)
    rows = [row for row in ROWS if any(fnmatch.fnmatch(row.name, one) for one in options.only)]
    if not rows:
        sys.exit(f"--only {' '.join(options.only)} fits no row of {[row.name for row in ROWS]}")
    if options.dry_run:
        minutes = sum(row.minutes for row in rows) * len(options.seeds)
        print(*(f"{row.name:28} {row.minutes:3} CPU minutes" for row in rows), sep="\n")
        print(f"{minutes} CPU minutes for {len(options.seeds)} seed(s)")
        return
    for row in rows:
        for seed in options.seeds:
            try:
                scores = run_row(row, seed, options)
            except subprocess.CalledProcessError as error:
                sys.exit(f"{row.name}, seed {seed}: a command ended with {error.returncode}")
            print(row.name, seed, json_text(scores), flush=True)
        write_record(options)
    if options.curves:
        draw_curves(options)


def run_row(row: Row, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train, score and reconstruct; what a former call has finished is read."""
    run_dir = options.runs / row.name / str(seed)
    done = run_dir / "row.json"
    if done.is_file():
        return json.loads(done.read_text())
    cost = training_cost(row, seed, options)
    run(training(row, seed, run_dir, options), options, cost)
    scores: dict[str, Any] = dict(cost.numbers)
    if row.data:
        words = ["evaluate", "--run-dir", str(run_dir), "--samples", str(options.samples)]
        run([*words, "--max-sentences", str(options.sentences), "--precision", "bf16"], options)
        (results,) = run_dir.glob("eval_results*.json")
        scores |= json.loads(results.read_text())
        scores |= reconstructions(run_dir, corpus_of(row, options), options.sentences)
    scores |= {"sentences": options.sentences, "samples": options.samples}
    done.write_text(json_text(scores, indent=2) + "\n")
    shutil.rmtree(run_dir / "checkpoints")  # 2 GB with the optimizer; the weights are in model/
    return scores


class Cost:
    """CPU seconds of a training, over all calls that it took, and its steps if they were chosen."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.numbers = json.loads(path.read_text()) if path.is_file() else {}

    def add(self, **numbers: float) -> None:
        """Add to what is known, and keep it."""
        for name, number in numbers.items():
            self.numbers[name] = self.numbers.get(name, 0) + number
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json_text(self.numbers) + "\n")


def cost_of(name: str, seed: int, options: argparse.Namespace) -> Cost:
    """Stands beside the run's folder."""
    return Cost(options.runs / name / f"{seed}.cost.json")


def training_cost(row: Row, seed: int, options: argparse.Namespace) -> Cost:
    """Of a row; one that is to take as long as another gets its number of steps here.

    Two short runs tell what a step and what the rest cost, so that the schedule of the learning
    rate ends with the run.
    """
    cost = cost_of(row.name, seed, options)
    if row.as_long_as and "steps" not in cost.numbers:
        other = cost_of(row.as_long_as, seed, options).numbers.get("train_cpu_seconds")
        if other is None:
            sys.exit(f"{row.name} is to take as long as {row.as_long_as}, which must be run first")
        seconds = []
        for steps in TRIAL_STEPS:
            folder = options.runs / row.name / f"{seed}.trial"
            command = training(row, seed, folder, options)
            seconds.append(run([*command, "--max-steps", str(steps)], options))
            shutil.rmtree(folder)
        a_step = (seconds[1] - seconds[0]) / (TRIAL_STEPS[1] - TRIAL_STEPS[0])
        cost.add(steps=int((other - seconds[0]) / a_step) + TRIAL_STEPS[0])
    return cost


def run(words: Sequence[str], options: argparse.Namespace, cost: Cost | None = None) -> float:
    """Run a command of optimus; returns its CPU seconds and adds them to ``cost``."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    before = cpu_seconds()
    try:
        subprocess.run([sys.executable, "-m", "optimus", *words], check=True, env=environment)
    finally:
        seconds = cpu_seconds() - before
        if cost is not None:
            cost.add(train_cpu_seconds=seconds)
    return seconds


def training(row: Row, seed: int, run_dir: Path, options: argparse.Namespace) -> list[str]:
    """The words of one row's command."""
    words = ["train", *(row.command or (f"real-{row.name}",))]
    words += ["--run-dir", str(run_dir), "--seed", str(seed)]
    if row.name.endswith("pretrained"):
        words += ["--model.init", str(options.runs / "pretrain" / str(seed) / "model")]
    elif not row.as_long_as:
        words += ["--model.init", *(str(options.weights / one) for one in networks(options))]
    steps = cost_of(row.name, seed, options).numbers.get("steps")
    if steps:
        words += ["--max-steps", str(steps)]
    return [*words, "--data.folder", str(corpus_of(row, options))]


def networks(options: argparse.Namespace) -> tuple[str, str]:
    return options.encoder, options.decoder


def corpus_of(row: Row, options: argparse.Namespace) -> Path:
    """The folder of a row's corpus."""
    names = {"Tatoeba": "tatoeba", "SNLI": "snli-sentences", "PTB": "penn", "Yelp": "yelp"}
    return options.data / names.get(row.data, "unlabelled")


def reconstructions(run_dir: Path, corpus: Path, count: int) -> dict[str, Any]:
    """Greedy reconstructions from the posterior mean of the first ``count`` test sentences.

    BLEU-4 is of each sentence against its original, in per cent; ``exact`` and ``first_words`` are
    the shares that are the same, whole and in their first two words. ``subject`` is, of the short
    sentences that begin with a common subject, the share whose reconstruction begins with the same
    one; ``subject_by_chance`` is that share against the reconstruction of the next such sentence.
    """
    vae = SentenceVAE.from_pretrained(run_dir)
    if vae.model.encoder is None:
        return {}
    lines = [line for line in read_texts(corpus / "test.txt") if line.strip()][:count]
    texts = [line.partition("\t")[2] or line for line in lines]
    made = vae.reconstruct(texts)
    pairs = [(text.split(), other.split()) for text, other in zip(texts, made, strict=True)]
    smooth = SmoothingFunction().method1
    short = [(subject_of(text), subject_of(one)) for text, one in pairs if len(text) <= SHORT]
    short = [(subject, other) for subject, other in short if subject in SUBJECTS]
    shifted = [(short[place - 1][0], other) for place, (_, other) in enumerate(short)]
    bleu = corpus_bleu([[text] for text, _ in pairs], [one for _, one in pairs],
                       smoothing_function=smooth)  # fmt: skip
    return {
        "bleu": 100 * bleu,
        "exact": 100 * statistics.mean(text == one for text, one in pairs),
        "first_words": 100 * statistics.mean(text[:2] == one[:2] for text, one in pairs),
        **({"subject": share(short), "subject_by_chance": share(shifted)} if short else {}),
        "short_sentences": len(short),
        "examples": [f"{text} -> {other}" for text, other in zip(texts, made, strict=True)][:SHOWN],
    }


def share(pairs: Sequence[tuple[str, str]]) -> float:
    """Of ``pairs`` that are equal, in per cent."""
    return 100 * statistics.mean(one == other for one, other in pairs)


def subject_of(words: Sequence[str]) -> str:
    """The first word in lower case, without what is contracted with it: ``i`` of ``I'm``."""
    return words[0].lower().replace("\u2019", "'").partition("'")[0] if words else ""


def cpu_seconds() -> float:
    """CPU time of the commands that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def write_record(options: argparse.Namespace) -> None:
    """The rows that are finished, as a record of evidence."""
    seeds = options.seeds
    found = {row: finished(row, options) for row in ROWS if row.data}
    corpora = {row.data for row in found if found[row]}
    lines = [
        "# MiniLM and SmolLM2 with a latent between them. Written by real_weights.py.",
        "",
        "[[record]]",
        'id = "real-weights"',
        'title = "Real weights: MiniLM (6 layers) and SmolLM2 (135 M)"',
        f'command = "python evidence/real_weights.py --sentences {options.sentences} '
        f'--samples {options.samples} --threads {options.threads}"',
        'preset = "real-*"',
        f'commit = "{commit()}"',
        f'date = "{time.strftime("%Y-%m-%d")}"',
        f'seeds = "{", ".join(map(str, seeds))}"',
        f'machine = "{options.threads} thread(s), a shared 2-core x86-64 machine"',
        f'checksum = "sha256 {checksums(corpora, options)}"',
        f'protocol = "the first {options.sentences} test sentences, K = {options.samples}; '
        "networks in bf16; mean and, of several seeds, sample standard deviation; BLEU, exact, "
        f"first two words and subject (of sentences of at most {SHORT} words that begin with a "
        "pronoun or a common name; by chance: of the sentence before) in per cent, of greedy "
        'reconstructions from the mean"',
        'differs = "other networks and corpora than the paper\'s"',
        f"data = {json_text(sorted(corpora))}",
        'units = { "-ELBO" = "nats", "IW NLL" = "nats", KL = "nats", MI = "nats" }',
    ]
    for row, scores in found.items():
        if scores:
            lines += ["", "[[record.row]]", f'name = "{row.name}"', cells(row.data, scores)]
    options.record.write_text("\n".join(lines) + "\n", encoding="utf-8")


def checksums(corpora: set[str], options: argparse.Namespace) -> str:
    """Beginnings of the sums of the texts and of the weights."""
    folders = [corpus_of(row, options) for row in ROWS if row.data in corpora]
    files = [folder / name for folder in dict.fromkeys(folders) for name in TEXTS]
    files += [options.weights / one / "model.safetensors" for one in networks(options)]
    sums = [(file, hashlib.sha256(file.read_bytes()).hexdigest()[:12]) for file in files]
    return ", ".join(f"{file.parent.name}/{file.name} {found}" for file, found in sums)


def finished_runs(row: Row, options: argparse.Namespace) -> list[Path]:
    """Folders of a row's seeds whose scores are there."""
    folders = [options.runs / row.name / str(seed) for seed in options.seeds]
    return [folder for folder in folders if (folder / "row.json").is_file()]


def finished(row: Row, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Scores of a row's seeds that are there."""
    return [json.loads((one / "row.json").read_text()) for one in finished_runs(row, options)]


def cells(data: str, found: Sequence[Mapping[str, Any]]) -> str:
    """``DATA = { METRIC = CELL, ... }`` of one row, over its seeds."""
    minutes = statistics.mean(one["train_cpu_seconds"] for one in found) / 60
    steps = statistics.mean(one["provenance"]["step"] for one in found)
    parts = [f'seeds = {len(found)}, steps = {steps:.0f}, "CPU minutes" = {minutes:.1f}']
    for key, name in METRICS.items():
        values = [float(one[key]) for one in found if key in one]
        if key == "nll" and "iw_nll" in found[0]:
            continue  # of a latent one it is the reconstruction
        if key.startswith("subject") and min(one.get("short_sentences", 0) for one in found) < FEW:
            continue
        if len(values) == 1:
            parts.append(f'"{name}" = {values[0]:.2f}')
        elif values:
            spread = statistics.stdev(values)
            mean = statistics.mean(values)
            parts.append(f'"{name}" = {{ value = {mean:.2f}, spread = {spread:.2f} }}')
    return f"{data} = {{ {', '.join(parts)} }}"


def draw_curves(options: argparse.Namespace) -> None:
    """Two panels: nats of a sentence by CPU minute at lambda 0.05, and KL by step at 0.5.

    A line is the running mean of a row over its seeds; the scoring of the validation text and the
    start, which take time and no step, are spread over the steps.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for row in ROWS:
        if row.data != "Tatoeba" or not (found := finished(row, options)):
            continue
        runs = [read_metrics(folder) for folder in finished_runs(row, options)]
        label = LABELS.get(row.name, row.name)
        if "0.05" in row.name:
            steps, rec = mean_curve(runs, "rec")
            seconds = statistics.mean(
                one["train_cpu_seconds"] / one["provenance"]["step"] for one in found
            )
            left.plot([step * seconds / 60 for step in steps], rec, label=label)
        elif "0.50" in row.name:
            right.plot(*mean_curve(runs, "full_kl"), label=label)
    nats = "nats a sentence"
    left.set(title="lambda 0.05", xlabel="CPU minutes", ylabel=f"-log p(x|z), {nats}")
    left.set_ylim(15, 75)
    right.set(
        title="lambda 0.5", xlabel="steps of 16 sentences", ylabel=f"KL, {nats}", ylim=(0, 50)
    )
    for axes in (left, right):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(options.curves, dpi=110)


def mean_curve(
    runs: Sequence[Sequence[Mapping[str, float]]], name: str
) -> tuple[list[float], list[float]]:
    """Steps that all runs logged, and the means over five logged values and the runs."""
    logged = [{row["step"]: row[name] for row in run if name in row} for run in runs]
    steps = sorted(set.intersection(*map(set, logged)))
    means = [statistics.mean(run[step] for run in logged) for step in steps]
    return steps, [
        statistics.mean(means[max(0, place - 2) : place + 3]) for place in range(len(means))
    ]


def commit() -> str:
    """The commit of the tree that this file is in."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
