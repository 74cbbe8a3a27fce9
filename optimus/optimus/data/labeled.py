"""Sentences with a class: sentiment files, GLUE's tasks and Yelp as classification.

Batches for generation are drawn from ``Labeled.sentences``; ``Labeled.labels_of`` gives their
classes. GLUE's files are its own ``train.tsv`` and ``dev.tsv``; reading goes by the names in a
file's header, so that the column order of a release does not matter.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..metrics.classification import MetricKind
from ..runtime.checkpoint import CheckpointMismatch
from ..runtime.files import json_text
from ..runtime.text_files import read_lines, read_number, read_texts
from .text import Batch, Sentences, TextOptions, pad_rows, tokenize
from .tokenizers import Tokenizers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labeled:
    """N sentences, their class numbers and the names of the classes."""

    sentences: Sentences
    labels: np.ndarray  # (N,) int64, 0 .. len(names) - 1
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sentences)

    @property
    def digest(self) -> str:
        """Of the labels."""
        content = json_text([self.names, self.labels.tolist()])
        return hashlib.sha256(content.encode()).hexdigest()

    def labels_of(self, batch: Batch) -> Tensor:
        """Classes (B,) of a batch that was drawn from ``self.sentences``."""
        return torch.from_numpy(self.labels)[batch.index.cpu()].to(batch.index.device)


def read_labeled(path: str | Path) -> tuple[list[str], list[str]]:
    """Labels and texts, line by line, blank texts included.

    ``path`` is ``NAME.text`` with ``NAME.labels`` beside it, a file of ``label TAB text``, or the
    common stem of ``STEM.0``, ``STEM.1``, ... with one class in each.

    Raises:
        FileNotFoundError: none of these exists.
        ValueError: labels and texts do not match.
    """
    path = Path(path)
    classes = sorted(p for p in path.parent.glob(f"{path.name}.*") if p.suffix[1:].isdigit())
    if path.suffix == ".text" and path.is_file():
        partner = path.with_suffix(".labels")
        if not partner.is_file():
            raise FileNotFoundError(f"{path} needs its labels in {partner}, one a line")
        texts, labels = read_texts(path), [label.strip() for label in read_texts(partner)]
        if len(texts) != len(labels):
            raise ValueError(
                f"{path} has {len(texts)} lines and {partner} {len(labels)}; they must match"
            )
        for number, (label, text) in enumerate(zip(labels, texts, strict=True), start=1):
            if text.strip() and not label:
                raise ValueError(f"{partner} line {number}: there is no label for the text")
        return labels, texts
    if path.is_file():
        labels, texts = [], []
        for line in read_lines(path):
            label, tab, text = line.text.partition("\t")
            if line.text.strip() and not (label.strip() and tab):
                raise line.complaint("it is not `label TAB text`")
            labels.append(label.strip())
            texts.append(text)
        return labels, texts
    if not classes:
        raise FileNotFoundError(
            f"no labelled text {path}: expected a file of `label TAB text`, NAME.text with "
            f"NAME.labels, or {path.name}.0 and {path.name}.1"
        )
    pairs = [(part.suffix[1:], text) for part in classes for text in read_texts(part)]
    return [label for label, _ in pairs], [text for _, text in pairs]


def load_labeled(
    path: str | Path,
    tokenizers: Tokenizers,
    options: TextOptions | None = None,
    *,
    names: Sequence[str] | None = None,
) -> Labeled:
    """Read and tokenise labelled text; ``names`` fixes the classes and their order.

    Without ``names`` the classes are those of the file, sorted. Give the training file's names to
    the others, so that the numbers mean the same.
    """
    labels, texts = read_labeled(path)
    sentences = tokenize(texts, tokenizers, options or TextOptions())
    if not len(sentences):
        raise ValueError(f"{path} holds no usable sentence: {sentences.counts}")
    kept = [labels[line] for line in sentences.lines]
    if names is None and len(set(kept)) < 2:
        raise ValueError(
            f"{path} holds one class alone, {kept[0]!r}; two or more can be told apart"
        )
    names = tuple(sorted(set(kept))) if names is None else tuple(names)
    unknown = sorted(set(kept) - set(names))
    if unknown:
        raise ValueError(f"{path} has the label {unknown[0]!r}; known are {', '.join(names)}")
    numbers = {name: number for number, name in enumerate(names)}
    return Labeled(sentences, np.array([numbers[label] for label in kept], np.int64), names)


def sample_per_label(labels: np.ndarray, count: int | float, seed: int) -> np.ndarray:
    """Sorted numbers of ``count`` examples of each class, drawn without replacement.

    A ``count`` below 1 is a share of the class.
    """
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        size = round(count * len(members)) if isinstance(count, float) else count
        if not 0 < size <= len(members):
            raise ValueError(f"class {label} has {len(members)} examples, {count} are asked for")
        chosen.append(generator.choice(members, size, replace=False))
    return np.sort(np.concatenate(chosen))


YELP_TEST_PER_LABEL = 5000  # the part of the test set that the authors score


@dataclass(frozen=True)
class Task:
    """Where a task's texts and labels stand."""

    text: tuple[str, ...]  # columns of one sentence or of a pair
    label: str
    names: tuple[str, ...] = ("0", "1")  # () is regression
    metric: MetricKind = "accuracy"
    header: tuple[str, ...] | None = None  # of a file that has none
    development: str = "dev.tsv"
    folder: str = ""  # if not the task's name


_NLI = ("contradiction", "entailment", "neutral")
_ENTAIL = ("entailment", "not_entailment")
_PAIR = ("sentence1", "sentence2")

TASKS: dict[str, Task] = {
    "CoLA": Task(("text",), "label", metric="matthews", header=("source", "label", "star", "text")),
    "SST-2": Task(("sentence",), "label"),
    "MRPC": Task(("#1 String", "#2 String"), "Quality", metric="accuracy-f1"),
    "STS-B": Task(_PAIR, "score", (), "correlation"),
    "QQP": Task(("question1", "question2"), "is_duplicate", metric="accuracy-f1"),
    "MNLI": Task(_PAIR, "gold_label", _NLI, development="dev_matched.tsv"),
    "MNLI-mm": Task(_PAIR, "gold_label", _NLI, development="dev_mismatched.tsv", folder="MNLI"),
    "QNLI": Task(("question", "sentence"), "label", _ENTAIL),
    "RTE": Task(_PAIR, "label", _ENTAIL),
    "WNLI": Task(_PAIR, "label"),
    "YELP": Task(("text",), "label", development="test.tsv"),
}
LABELED = "labeled"  # any labelled text that read_labeled reads


@dataclass(frozen=True)
class Examples:
    """N tokenised examples."""

    ids: list[np.ndarray]  # [CLS] a [SEP] or [CLS] a [SEP] b [SEP]
    segments: list[np.ndarray]  # 0 up to the first [SEP], 1 after it
    labels: np.ndarray  # (N,) class numbers, or numbers for regression
    names: tuple[str, ...]  # () is regression
    metric: MetricKind

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def outputs(self) -> int:
        """Outputs of a classifier."""
        return len(self.names) or 1

    def subset(self, chosen: np.ndarray) -> Examples:
        """The examples with the numbers ``chosen``."""
        return replace(
            self,
            ids=[self.ids[i] for i in chosen],
            segments=[self.segments[i] for i in chosen],
            labels=self.labels[chosen],
        )

    def digest(self) -> str:
        """A digest of the content, by which a resumed run knows its data."""
        total = hashlib.sha256(self.labels.tobytes())
        for row in self.ids:
            total.update(np.asarray(row, dtype=np.int64).tobytes())
        return total.hexdigest()


class ExampleBatch(NamedTuple):
    """B examples, padded on the right."""

    ids: Tensor  # (B, S) long
    segments: Tensor  # (B, S) long
    labels: Tensor  # (B,) long, or float for regression
    index: Tensor  # type: ignore[assignment]  # (B,) number of the example
    padded: bool  # whether any is shorter than S


def load_task(
    name: str,
    folder: Path,
    split: str,
    tokenizers: Tokenizers,
    *,
    max_tokens: int = 128,
    names: Sequence[str] | None = None,
) -> Examples:
    """Examples of ``split`` (``train`` or ``dev``) of a task.

    Args:
        name: of ``TASKS``, or ``labeled``.
        folder: GLUE's folder, which holds one folder a task, or the task's own; for ``labeled``
            the text itself (see ``read_labeled``).
        split: which file.
        tokenizers: the encoder's side is used.
        max_tokens: longer examples lose tokens of the longer sentence.
        names: for ``labeled``, the classes of the training text.
    """
    if name == LABELED:
        labels, texts = read_labeled(folder)
        columns = [[t for t in texts if t.strip()]]
        kept = [label for label, text in zip(labels, texts, strict=True) if text.strip()]
        task = Task(("text",), "label", tuple(names or sorted(set(kept))))
        source: Path = folder
        if not kept:
            raise ValueError(f"{folder} holds no labelled text; give a file of `label TAB text`")
        if len(task.names) < 2:
            raise ValueError(
                f"{folder} holds one class alone, {task.names[0]!r}; two or more can be told apart"
            )
    else:
        task = find_task(name)
        source = find_file(name, folder, split)
        columns, kept = read_task(source, task)
    numbers = _numbers(task, kept, source)
    ids, segments = encode_pairs(tokenizers, columns, max_tokens)
    examples = Examples(ids, segments, numbers, task.names, task.metric)
    if name == "YELP" and split != "train":
        counts = np.bincount(numbers)
        size = min(YELP_TEST_PER_LABEL, int(counts[counts > 0].min()))
        return examples.subset(sample_per_label(numbers, size, seed=0))
    return examples


def find_task(name: str) -> Task:
    """The row of ``TASKS``; names are compared without regard to case."""
    for known, task in TASKS.items():
        if known.lower() == name.lower():
            return task
    raise ValueError(f"unknown task {name!r}; choose one of {', '.join(TASKS)} or {LABELED}")


def find_file(name: str, folder: Path, split: str) -> Path:
    """The file of a split (``train`` or ``dev``) of a task, in GLUE's folder or the task's own."""
    task = find_task(name)
    file = "train.tsv" if split == "train" else task.development
    inner = task.folder or next(n for n in TASKS if n.lower() == name.lower())
    for path in (folder / inner / file, folder / file):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{folder / inner / file} is missing; GLUE's files are at https://gluebenchmark.com/tasks, "
        "and --data.folder names the folder with one folder a task"
    )


def read_task(path: Path, task: Task) -> tuple[list[list[str]], list[str]]:
    """Columns of text, and labels, of a GLUE file.

    Rows that end before the wanted columns are left out and counted, as the authors do: QQP's file
    has such.

    Raises:
        ValueError: there is no row or no such column, or a label or score is none of the task.
    """
    lines = read_lines(path)
    header = task.header
    if header is None:
        first = next(lines, None)
        header = () if first is None else tuple(first.text.split("\t"))
    wanted = [*task.text, task.label]
    if not any(header):
        raise ValueError(f"{path} has no header: its first line is empty; fetch it again")
    missing = [column for column in wanted if column not in header]
    if missing:
        raise ValueError(
            f"{path} has no column {missing[0]!r}; its columns are {', '.join(header)}"
        )
    places = [header.index(column) for column in wanted]
    rows, short = [], []
    for line in lines:
        if not line.text.strip():
            continue
        cells = line.text.split("\t")
        if len(cells) <= max(places):
            short.append(line.number)
            continue
        row = [cells[place] for place in places]
        if not task.names:
            read_number(row[-1], line, task.label)
        elif row[-1] not in task.names:
            raise line.complaint(f"the label {row[-1]!r}; known are {', '.join(task.names)}")
        rows.append(row)
    if short:
        rest = f"{len(short)} rows of too few columns are left out, the first in line {short[0]}"
        logger.warning("%s: %s", path, rest)
    if not rows:
        raise ValueError(f"{path} holds no example of the columns {', '.join(wanted)}")
    *texts, labels = zip(*rows, strict=True)
    return [list(column) for column in texts], list(labels)


def glue_text(folder: Path, name: str) -> list[str]:
    """The training examples of a task as lines, ``a`` or ``a [SEP] b``, without labels.

    A sentence VAE is trained on them before it is scored on the task.
    """
    columns, _ = read_task(find_file(name, folder, "train"), find_task(name))
    return [" [SEP] ".join(cell.strip() for cell in row) for row in zip(*columns, strict=True)]


def encode_pairs(
    tokenizers: Tokenizers, columns: Sequence[Sequence[str]], max_tokens: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Ids and segments of sentences, or of pairs; the longer side of a pair is cut first."""
    sides = [[row[1:-1] for row in tokenizers.encode_encoder(column)] for column in columns]
    ids, segments = [], []
    room = max_tokens - 1 - len(sides)
    for parts in zip(*sides, strict=True):
        lengths = [len(part) for part in parts]
        while sum(lengths) > room:
            lengths[int(np.argmax(lengths))] -= 1
        row, segment = [tokenizers.cls_id], [0]
        for side, (part, length) in enumerate(zip(parts, lengths, strict=True)):
            row += [*part[:length], tokenizers.sep_id]
            segment += [side] * (length + 1)
        ids.append(np.array(row))
        segments.append(np.array(segment))
    return ids, segments


def sample_examples(examples: Examples, amount: int | float, seed: int) -> Examples:
    """``amount`` examples of each class: a count, or a share where it is a float.

    Regression has no classes; there the amount is of all examples. A share of 1.0 is everything.
    """
    if isinstance(amount, float) and amount == 1.0:
        return examples
    classes = examples.labels if examples.names else np.zeros(len(examples), dtype=np.int64)
    return examples.subset(sample_per_label(classes, amount, seed))


def collate(examples: Examples, chosen: np.ndarray, pad_id: int) -> ExampleBatch:
    """The examples with the numbers ``chosen`` as a batch."""
    ids, _ = pad_rows([examples.ids[i] for i in chosen], pad_id)
    segments, _ = pad_rows([examples.segments[i] for i in chosen], 0)
    labels = torch.from_numpy(np.ascontiguousarray(examples.labels[chosen]))
    padded = not bool((ids != pad_id).all())
    return ExampleBatch(ids, segments, labels, torch.from_numpy(np.asarray(chosen)), padded)


class ExampleBatches:
    """Endless numbers of examples, a new order each epoch, with an exact position.

    The batch of all processes together is fixed by the seed and the position, and split by rows.
    With fewer examples than ``batch_size`` a batch is all of them.

    Args:
        examples: what is drawn from.
        batch_size: of all processes together.
        seed: of the order.
        rank, world_size: this process and the number of processes.
    """

    def __init__(
        self, examples: Examples, batch_size: int, *, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.batch_size = min(batch_size, len(examples) // world_size * world_size)
        if not self.batch_size:
            raise ValueError(f"{len(examples)} examples are too few for {world_size} processes")
        self.count, self.seed, self.rank, self.world_size = len(examples), seed, rank, world_size
        self.batches_per_epoch = self.count // self.batch_size
        self.position = 0
        self._digest = examples.digest()

    def __next__(self) -> np.ndarray:
        epoch, index = divmod(self.position, self.batches_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        self.position += 1
        chosen = order[index * self.batch_size : (index + 1) * self.batch_size]
        return chosen[self.rank :: self.world_size]

    def state_dict(self) -> dict[str, Any]:
        """The position, and what it refers to."""
        return {"position": self.position, "digest": self._digest, "size": self.batch_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at a saved position of the same examples."""
        if state["size"] != self.batch_size:
            raise CheckpointMismatch(
                f"a batch has {self.batch_size} examples here and {state['size']} in the run; use "
                "the same batch size and labels, or another --run-dir"
            )
        if state["digest"] != self._digest:
            raise CheckpointMismatch(
                f"the run was trained on other examples than these {self.count}; give the texts "
                "that it was started with, or another --run-dir"
            )
        self.position = int(state["position"])


def _numbers(task: Task, labels: Sequence[str], source: Path) -> np.ndarray:
    if not task.names:
        return np.array([float(label) for label in labels], dtype=np.float32)
    unknown = sorted(set(labels) - set(task.names))
    if unknown:
        raise ValueError(
            f"{source} has the label {unknown[0]!r}; known are {', '.join(task.names)}"
        )
    numbers = {name: number for number, name in enumerate(task.names)}
    return np.array([numbers[label] for label in labels], dtype=np.int64)
