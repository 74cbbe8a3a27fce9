"""``optimus edit {learn,move}``: the direction of an attribute, and sentences moved along it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..api import SentenceVAE
from ..config import Device
from ..data.columns import read_items
from ..decoding import Sampling, check_used
from ..directions import Direction, Method
from ..metrics.classification import NgramJudge
from ..metrics.text import paired_bleu
from ..runtime.command import choose
from ..runtime.distributed import choose_device
from ..runtime.files import write_atomically
from ..runtime.options import at_least, require
from ..runtime.published import markdown_table
from ..tasks.judge import Judge
from .encode import parse_with_run_dir

EXAMPLES = 3  # sentences that `learn` shows


@dataclass(frozen=True)
class EditConfig:
    """What the two kinds share."""

    model: Path = Path("runs/demo")
    """Folder of a model, or of a run; --run-dir is another name of this option."""
    step: int | None = None
    """Of a run: the step of the checkpoint to use; by default its newest weights."""
    column: str = ""
    """Column of the sentences in TSV, CSV and JSONL files, see `optimus encode`."""
    strengths: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5)
    """How far to go; 1 is the distance between sentences without and with the attribute, 0 is the
    reconstruction, and negative values go the other way."""
    judge: Path | None = None
    """Run of `optimus train-classifier` that says whether a sentence has the attribute; without it
    `learn` trains logistic regression on words and word pairs, and `move` measures nothing."""
    judge_label: str = ""
    """The name that the attribute has among the classes of --judge."""
    decoding: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=100))
    batch_size: int = 64
    """Sentences encoded or decoded at once."""
    seed: int = 42
    """Seed of sampling, and of the split of `learn`."""
    device: Device = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        at_least(self, batch_size=1, seed=0)
        check_used(self.decoding)
        require(bool(self.strengths), "--strengths must name at least one")
        require(bool(np.isfinite(self.strengths).all()), "--strengths must be finite")
        require(
            (self.judge is None) == (not self.judge_label),
            "--judge and --judge-label belong together: a classifier and one of its classes",
        )


@dataclass(frozen=True)
class LearnConfig(EditConfig):
    """Learn a direction from sentences with and without an attribute, and measure it.

    Each file is split in three: for the direction, for the judge, and for the test, in which
    sentences that lack the attribute are moved and judged.
    """

    having: Path = Path("having.txt")
    """File of sentences that have the attribute."""
    lacking: Path = Path("lacking.txt")
    """File of sentences that lack it."""
    output: Path = Path("direction.safetensors")
    """File of the direction."""
    name: str = ""
    """What to call it; by default the name of the first file."""
    method: Method = "difference"
    """difference of the means, or the normal of the boundary of a logistic regression."""
    judge_share: float = 0.3
    """Share of each file that the judge learns from."""
    test_share: float = 0.2
    """Share of each file that is tested."""
    max_test: int = 200
    """At most so many sentences are moved and judged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, max_test=1)
        require(
            self.judge_share > 0 and self.test_share > 0 and self.judge_share + self.test_share < 1,
            f"--judge-share {self.judge_share} and --test-share {self.test_share} must be positive "
            "and leave something for the direction",
        )
        require(
            self.output.suffix == ".safetensors",
            f"--output {self.output} must end in .safetensors",
        )


@dataclass(frozen=True)
class MoveConfig(EditConfig):
    """Move sentences along a direction: lines of `strength TAB sentence TAB moved`."""

    direction: Path = Path("direction.safetensors")
    """File of `optimus edit learn`."""
    texts: tuple[str, ...] = ()
    """Sentences."""
    file: Path | None = None
    """File of sentences; - is standard input."""
    output: Path | None = None
    """File for the result; standard output if absent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            bool(self.texts) != (self.file is not None),
            "give sentences with --texts, or a file of them with --file (- is standard input)",
        )


class Parts(NamedTuple):
    """Sentences of a file in three parts."""

    direction: list[str]
    judge: list[str]
    test: list[str]


def main(argv: Sequence[str]) -> None:
    """Run ``optimus edit learn --having past.txt --lacking present.txt``, or ``move``."""
    kinds: dict[str, tuple[Any, Any]] = {"learn": (LearnConfig, learn), "move": (MoveConfig, move)}
    texts = {name: kind.__doc__.partition("\n")[0] for name, (kind, _) in kinds.items()}
    about = "Learn the direction of an attribute in latent space, and move sentences along it."
    name, words = choose(texts, argv, "optimus edit", "kind", about)
    kind, function = kinds[name]
    function(parse_with_run_dir(kind, words, f"optimus edit {name}"))


def learn(config: LearnConfig) -> Direction:
    """Learn, measure, print and write a direction.

    Raises:
        FileNotFoundError: a file or the model is missing.
        ValueError: a file has too few sentences, or the judge has no such class.
    """
    having, lacking = (
        split(path, _read(path, config.column), config) for path in (config.having, config.lacking)
    )
    judge = open_judge(config)
    if judge is None:
        labels = [1] * len(having.judge) + [0] * len(lacking.judge)
        judge = _Having(NgramJudge([*having.judge, *lacking.judge], labels), 1)
    vae = _open(config)
    name = config.name or config.having.stem
    found = vae.direction(
        having.direction, lacking.direction, config.method, name=name, batch_size=config.batch_size
    )
    places = [found.has(vae.encode(part.test)).float() for part in (having, lacking)]
    right = [judge.share(having.test), 1 - judge.share(lacking.test)]
    about = {
        "method": config.method,
        "sentences": [len(having.direction), len(lacking.direction)],
        "tested": [len(having.test), len(lacking.test)],
        "latent_accuracy": float(places[0].mean() + 1 - places[1].mean()) / 2,
        "judge_accuracy": sum(right) / 2,
        "strengths": _measure(config, vae, found, lacking.test[: config.max_test], judge),
    }
    found = Direction(found.vector, name, found.threshold, about)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    found.save(config.output)
    _show(found, vae, config, lacking.test)
    return found


def move(config: MoveConfig) -> list[str]:
    """Write each sentence at each strength; returns the lines.

    Raises:
        FileNotFoundError: the direction, the model or the file is missing.
        ValueError: the direction is of another model.
    """
    direction = Direction.load(config.direction)
    texts = list(config.texts)
    if config.file is not None:
        texts = _read(config.file, config.column)
    judge, vae = open_judge(config), _open(config)
    lines, shares = [], []
    for strength in config.strengths:
        moved = vae.move(texts, direction, strength, config.decoding, batch_size=config.batch_size)
        for pair in zip(texts, moved, strict=True):
            lines.append("\t".join([f"{strength:g}", *(" ".join(text.split()) for text in pair)]))
        if judge is not None:
            shares.append([f"{strength:g}", f"{judge.share(moved):.3f}"])
    text = "".join(f"{line}\n" for line in lines)
    if config.output is None:
        sys.stdout.write(text)
    else:
        config.output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(config.output, text)
    if shares:
        table = markdown_table(["strength", f"judged {config.judge_label}"], shares)
        print(table, end="", file=sys.stderr)
    return lines


def split(path: Path, texts: list[str], config: LearnConfig) -> Parts:
    """Different sentences of ``texts`` in three parts that share none."""
    order = list(dict.fromkeys(texts))
    order = [order[i] for i in np.random.default_rng(config.seed).permutation(len(order))]
    judge, test = (round(len(order) * share) for share in (config.judge_share, config.test_share))
    rest = len(order) - judge - test
    require(
        min(judge, test, rest) >= 1,
        f"{path} has {len(order)} different sentences: too few for a direction, a judge and a test",
    )
    return Parts(order[:rest], order[rest : rest + judge], order[rest + judge :])


class _Having(NamedTuple):
    """A classifier and the number of the class that has the attribute."""

    classifier: NgramJudge | Judge
    label: int

    def share(self, texts: Sequence[str]) -> float:
        """Of ``texts``, those that are judged to have it."""
        return float((self.classifier.predict(texts) == self.label).mean())


def open_judge(config: EditConfig) -> _Having | None:
    """The classifier that ``--judge`` names."""
    if config.judge is None:
        return None
    judge = Judge.load(config.judge, str(choose_device(config.device)))
    require(
        config.judge_label in judge.names,
        f"--judge-label {config.judge_label}: the classes of {config.judge} are "
        f"{', '.join(judge.names)}",
    )
    return _Having(judge, judge.names.index(config.judge_label))


def _measure(
    config: LearnConfig, vae: SentenceVAE, direction: Direction, texts: list[str], judge: _Having
) -> list[dict[str, float]]:
    """For each strength how many have the attribute now, and how much of the sentence is left."""
    rows = []
    for strength in config.strengths:
        moved = vae.move(texts, direction, strength, config.decoding, batch_size=config.batch_size)
        share, kept = judge.share(moved), paired_bleu(texts, moved)
        rows.append({"strength": strength, "judged": share, "bleu": kept})
    return rows


def _show(direction: Direction, vae: SentenceVAE, config: LearnConfig, texts: list[str]) -> None:
    about = direction.about
    print(
        f"{direction.name}: {about['latent_accuracy']:.1%} of held-out latents are on the right "
        f"side; the judge is right on {about['judge_accuracy']:.1%} of held-out sentences\n"
    )
    rows = [
        [f"{row['strength']:g}", f"{row['judged']:.3f}", f"{row['bleu']:.3f}"]
        for row in about["strengths"]
    ]
    header = ["strength", f"judged {direction.name}", "BLEU with the source"]
    print(markdown_table(header, rows), end="")
    for text in texts[:EXAMPLES]:
        print(f"\n{text}")
        for strength in config.strengths:
            (moved,) = vae.move(text, direction, strength, config.decoding)
            print(f"  {strength:>5g}  {moved}")
    print(f"\nthe direction is in {config.output}")


def _open(config: EditConfig) -> SentenceVAE:
    torch.manual_seed(config.seed)
    return SentenceVAE.from_pretrained(
        config.model, str(choose_device(config.device)), step=config.step
    )


def _read(path: Path, column: str) -> list[str]:
    texts = [item.text for item in read_items(path, column) if item.text]
    require(bool(texts), f"{path} holds no sentence")
    return texts
