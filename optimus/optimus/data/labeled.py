"""Sentences with a class: sentiment files for label-conditional generation and for classifiers.

Batches are drawn from ``Labeled.sentences``; ``Labeled.labels_of`` gives their classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .batches import Batch
from .sentences import Sentences, TextOptions, tokenize
from .tokenizers import Tokenizers


@dataclass(frozen=True)
class Labeled:
    """N sentences, their class numbers and the names of the classes."""

    sentences: Sentences
    labels: np.ndarray  # (N,) int64, 0 .. len(names) - 1
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sentences)

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
        texts, labels = _lines(path), [label.strip() for label in _lines(partner)]
        if len(texts) != len(labels):
            raise ValueError(
                f"{path} has {len(texts)} lines and {partner} {len(labels)}; they must match"
            )
        return labels, texts
    if path.is_file():
        rows = [line.partition("\t") for line in _lines(path)]
        for number, (label, tab, _) in enumerate(rows, start=1):
            if label.strip() and not tab:
                raise ValueError(f"line {number} of {path} is not `label TAB text`")
        return [row[0].strip() for row in rows], [row[2] for row in rows]
    if not classes:
        raise FileNotFoundError(
            f"no labelled text {path}: expected a file of `label TAB text`, NAME.text with "
            f"NAME.labels, or {path.name}.0 and {path.name}.1"
        )
    pairs = [(part.suffix[1:], text) for part in classes for text in _lines(part)]
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


def read_labeled_lines(path: Path) -> list[str]:
    """Lines of a file of one class; raises ``FileNotFoundError`` where there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} of a class, one sentence a line")
    return _lines(path)


def _lines(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig") as file:
        return [line.rstrip("\n") for line in file]
