"""Scores of dialog responses by the protocol of DialogWAE: several responses for each context.

BLEU recall, precision and F1, similarity of bags of word vectors (average, extrema, greedy), and
distinct n-grams within a response and among the responses of a context. Words are split at spaces.
Also, for styled responses (extension), the entropy of their n-grams.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..runtime.text_files import Line, read_lines, read_number

BLEU_WEIGHTS = (1 / 3, 1 / 3, 1 / 3)
MAX_UNMATCHED = 5  # contexts without references that are left out before it is an error


@dataclass(frozen=True)
class Turn:
    """One context, what was said to it, and what a model says."""

    context: str
    references: tuple[str, ...]
    responses: tuple[str, ...]


class WordVectors:
    """Vectors of words; an unknown word is zero.

    Args:
        vectors: word -> (D,).
        width: D.
    """

    def __init__(self, vectors: dict[str, np.ndarray], width: int) -> None:
        self.vectors, self.width = vectors, width
        self._unknown = np.zeros(width)

    def __call__(self, words: Sequence[str]) -> np.ndarray:
        """The vectors (T, D) of ``words``, (1, D) of zeros where there are none."""
        rows = [self.vectors.get(word, self._unknown) for word in words]
        return np.stack(rows) if rows else np.zeros((1, self.width))


def read_glove(
    path: str | Path, *, width: int | None = None, words: Iterable[str] | None = None
) -> WordVectors:
    """Read ``word number ... number`` lines, such as GloVe Twitter 27B with 200 dimensions.

    Args:
        path: the text file.
        width: D that the file must have; None takes that of its first line.
        words: keep these only, which saves memory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line has another width.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no word vectors {path}; fetch glove.twitter.27B.zip from nlp.stanford.edu and name "
            "glove.twitter.27B.200d.txt with --glove, or leave --glove out"
        )
    wanted = None if words is None else set(words)
    vectors: dict[str, np.ndarray] = {}
    empty = True
    for line in read_lines(path):
        empty = False
        word, _, rest = line.text.partition(" ")
        found = rest.count(" ") + 1 if rest else 0
        width = found if width is None else width
        if found != width:
            raise line.complaint(
                f"there are {found} numbers, {width} are expected; give the width of the file with "
                "--glove-width, or another file"
            )
        if wanted is None or word in wanted:
            vectors[word] = np.array(
                [read_number(part, line, f"vector of {word!r}") for part in rest.split(" ")]
            )
    if empty or width is None:
        raise ValueError(f"{path} holds no word vectors")
    return WordVectors(vectors, width)


def score_turns(turns: Sequence[Turn], vectors: WordVectors | None = None) -> dict[str, float]:
    """All scores, each in the mean over contexts; without ``vectors`` those of bags are left out.

    BLEU and similarities are averaged over the references of a context.
    """
    if not turns:
        raise ValueError("there is no dialog turn to score")
    rows = [_score_turn(turn, vectors) for turn in turns]
    scores = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    recall, precision = scores["bleu_recall"], scores["bleu_precision"]
    f1 = 2 * recall * precision / (precision + recall + 1e-11)
    return {"bleu_recall": recall, "bleu_precision": precision, "bleu_f1": f1} | scores


def _score_turn(turn: Turn, vectors: WordVectors | None) -> dict[str, float]:
    hypotheses = [text.split() for text in turn.responses]
    bleus = [[_sentence_bleu(ref.split(), h) for h in hypotheses] for ref in turn.references]
    scores = {
        "bleu_recall": float(np.mean([max(row) for row in bleus])),
        "bleu_precision": float(np.mean([np.mean(row) for row in bleus])),
    }
    if vectors is not None:
        embedded = [vectors(h) for h in hypotheses]
        longest = max(map(len, embedded))
        for name, similarity in BAGS.items():
            best = [
                max(similarity(vectors(ref.split()), bag, longest) for bag in embedded)
                for ref in turn.references
            ]
            scores[name] = float(np.mean(best))
    for n in (1, 2):
        scores[f"intra_distinct_{n}"] = float(np.mean([_distinct([h], n) for h in hypotheses]))
        scores[f"inter_distinct_{n}"] = _distinct(hypotheses, n)
    scores["length"] = float(np.mean([len(h) for h in hypotheses]))
    return scores


def _sentence_bleu(reference: list[str], hypothesis: list[str]) -> float:
    """nltk's BLEU-3 with smoothing 7; 0 where it cannot be computed, as in DialogWAE."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return float(
                sentence_bleu(
                    [reference],
                    hypothesis,
                    weights=BLEU_WEIGHTS,
                    smoothing_function=SmoothingFunction().method7,
                )
            )
        except (ZeroDivisionError, ValueError, KeyError):  # responses of one or two words
            return 0.0


def _distinct(rows: Sequence[Sequence[str]], n: int) -> float:
    """Different n-grams of ``rows`` over all of them, with the protocol's small constants."""
    grams = [tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)]
    return (len(set(grams)) + 1e-12) / (len(grams) + 1e-5)


def average_similarity(reference: np.ndarray, hypothesis: np.ndarray, length: int = 0) -> float:
    """Cosine of the means of two bags, (T, D) and (S, D); ``length`` is not used."""
    return _cosine(reference.mean(axis=0), hypothesis.mean(axis=0))


def extrema_similarity(reference: np.ndarray, hypothesis: np.ndarray, length: int = 0) -> float:
    """Cosine of the largest values by magnitude of two bags; ``length`` is not used."""
    return _cosine(_extrema(reference), _extrema(hypothesis))


def greedy_similarity(reference: np.ndarray, hypothesis: np.ndarray, length: int = 0) -> float:
    """Mean over the words of two bags of the cosine with the closest word of the other bag.

    The protocol pads the responses of a context with zeros to the ``length`` of the longest and
    counts the padding in the mean over the response's words; 0 pads nothing.
    """
    norms = [np.linalg.norm(bag, axis=1, keepdims=True) for bag in (reference, hypothesis)]
    cosines = reference @ hypothesis.T / np.maximum(norms[0] * norms[1].T, 1e-12)
    padding = max(length, len(hypothesis)) - len(hypothesis)
    forward, backward = cosines.max(axis=0), cosines.max(axis=1)
    if padding:
        backward = np.maximum(backward, 0.0)
    return float((forward.sum() / (len(hypothesis) + padding) + backward.mean()) / 2)


BAGS = {
    "bow_average": average_similarity,
    "bow_extrema": extrema_similarity,
    "bow_greedy": greedy_similarity,
}


def _extrema(bag: np.ndarray) -> np.ndarray:
    largest, smallest = bag.max(axis=0), bag.min(axis=0)
    return np.where(np.abs(smallest) > largest, smallest, largest)


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norm if norm > 0 else 0.0


def ngram_entropy(responses: Sequence[str], n: int = 4) -> float:
    """Entropy in nats of the n-grams of all ``responses``: high for varied text (extension)."""
    counts: Counter[tuple[str, ...]] = Counter()
    for text in responses:
        words = text.split()
        counts.update(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    total = counts.total()
    return -sum(c / total * math.log(c / total) for c in counts.values()) if total else 0.0


def group_turns(rows: Iterable[tuple[str, str, str]]) -> list[Turn]:
    """Turns of ``context, reference, response`` rows; rows of one context follow each other.

    A context that comes again later, with another reference, is another turn.
    """
    turns: list[tuple[str, str, list[str]]] = []
    for context, reference, response in rows:
        if not turns or turns[-1][:2] != (context, reference):
            turns.append((context, reference, []))
        turns[-1][2].append(response)
    return [Turn(context, (reference,), tuple(texts)) for context, reference, texts in turns]


def read_generated(path: str | Path) -> list[Turn]:
    """Turns of a file of ``context TAB reference TAB response`` lines.

    Raises:
        ValueError: a line has not three parts.
    """
    rows = []
    for line, parts in _read_columns(path):
        if len(parts) != 3:
            raise line.complaint("it is not `context TAB reference TAB response`")
        rows.append((parts[0], parts[1], parts[2]))
    if not rows:
        raise ValueError(f"{path} holds no `context TAB reference TAB response` line")
    return group_turns(rows)


def with_references(turns: Sequence[Turn], path: str | Path) -> tuple[list[Turn], int]:
    """``turns`` with all references that a file of ``context TAB reference`` lines has for them.

    Contexts are compared by their letters. Returns the turns and how many were left out because
    the file has no reference for them.

    Raises:
        ValueError: that is so for more than 5 of them.
    """
    references: dict[str, list[str]] = {}
    for line, parts in _read_columns(path):
        if len(parts) != 2:
            raise line.complaint("it is not `context TAB reference`")
        references.setdefault(_letters(parts[0]), []).append(parts[1])
    found = [
        Turn(turn.context, tuple(references[key]), turn.responses)
        for turn in turns
        if (key := _letters(turn.context)) in references
    ]
    missing = len(turns) - len(found)
    if missing > MAX_UNMATCHED:
        raise ValueError(f"{path} has no reference for {missing} of {len(turns)} contexts")
    return found, missing


def _letters(text: str) -> str:
    plain = text.replace("[SEP]", "").replace(" EOS ", " ")
    return "".join(char for char in plain.lower() if char.isalpha())


def _read_columns(path: str | Path) -> Iterator[tuple[Line, list[str]]]:
    for line in read_lines(path):
        if line.text.strip():
            yield line, line.text.split("\t")
