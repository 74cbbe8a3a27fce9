"""Quality and diversity of generated text: BLEU, self-BLEU and distinct n-grams.

BLEU is nltk's sentence BLEU with smoothing method 1, averaged over sentences, and agrees with it to
rounding. The n-grams of all references are counted once instead of once for each hypothesis, which
makes self-BLEU of N sentences linear in N.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache

EPSILON = 0.1  # the numerator of a precision without a match (Chen & Cherry, 2014, method 1)

Gram = tuple[str, ...]


def words_of(text: str) -> list[str]:
    """Words and punctuation marks of a sentence by nltk's rules for one sentence.

    Deviation: nltk's ``word_tokenize`` first looks for sentences inside the text with a model that
    must be downloaded; a line counts as one sentence here.
    """
    return _tokenizer().tokenize(text)


def bleu(references: Sequence[str], hypotheses: Sequence[str], n: int = 5) -> float:
    """Mean over ``hypotheses`` of BLEU-n against all ``references`` together; in [0, 1]."""
    _check(n, hypotheses, references)
    table = _References([words_of(text) for text in references], n)
    return sum(table.score(words_of(text)) for text in hypotheses) / len(hypotheses)


def self_bleu(sentences: Sequence[str], n: int = 5) -> float:
    """Mean BLEU-n of each sentence against all others; high values mean little diversity."""
    _check(n, sentences[:1], sentences[1:])
    rows = [words_of(text) for text in sentences]
    table = _References(rows, n)
    return sum(table.score(row, without=i) for i, row in enumerate(rows)) / len(rows)


def paired_bleu(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Corpus BLEU-4 of ``hypotheses``, each against its own reference; in [0, 1]."""
    from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu

    return float(
        corpus_bleu(
            [[words_of(text)] for text in references],
            [words_of(text) for text in hypotheses],
            smoothing_function=SmoothingFunction().method1,
        )
    )


def distinct(sentences: Sequence[str], n: int = 1) -> float:
    """Different n-grams over all n-grams of ``sentences``; in [0, 1], 0 where there is none."""
    counts: Counter[Gram] = Counter()
    for text in sentences:
        counts.update(_grams(words_of(text), n))
    return len(counts) / max(counts.total(), 1)


class _References:
    """For each n-gram its largest count in one reference, and the runner-up.

    The runner-up is what remains of an n-gram when the reference that holds the largest count is
    left out, as self-BLEU does.
    """

    def __init__(self, rows: Sequence[list[str]], n: int) -> None:
        self.n = n
        self.lengths = [len(row) for row in rows]
        self.length_counts = Counter(self.lengths)
        self.best: dict[Gram, tuple[int, int, int]] = {}  # count, its reference, second count
        for index, row in enumerate(rows):
            for size in range(1, n + 1):
                for gram, count in Counter(_grams(row, size)).items():
                    first, owner, second = self.best.get(gram, (0, -1, 0))
                    if count > first:
                        self.best[gram] = (count, index, first)
                    elif count > second:
                        self.best[gram] = (first, owner, count)

    def score(self, row: list[str], without: int = -1) -> float:
        """Sentence BLEU of ``row`` against all references but number ``without``."""
        logs = []
        for size in range(1, self.n + 1):
            counts = Counter(_grams(row, size))
            hits = sum(min(c, self._allowed(gram, without)) for gram, c in counts.items())
            if size == 1 and not hits:
                return 0.0
            logs.append(math.log((hits or EPSILON) / max(counts.total(), 1)))
        return self._brevity(len(row), without) * math.exp(math.fsum(logs) / self.n)

    def _allowed(self, gram: Gram, without: int) -> int:
        first, owner, second = self.best.get(gram, (0, -1, 0))
        return second if owner == without else first

    def _brevity(self, length: int, without: int) -> float:
        lengths = self.length_counts
        if without >= 0 and lengths[self.lengths[without]] == 1:
            lengths = lengths - Counter([self.lengths[without]])
        closest = min(lengths, key=lambda other: (abs(other - length), other))
        return 1.0 if length > closest else math.exp(1 - closest / length)


def _grams(row: Sequence[str], size: int) -> list[Gram]:
    return [tuple(row[i : i + size]) for i in range(len(row) - size + 1)]


def _check(n: int, hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if n < 1:
        raise ValueError(f"the order n of BLEU must be at least 1, got {n}")
    if not hypotheses or not references:
        raise ValueError("BLEU needs at least one sentence and one reference for it")


@cache
def _tokenizer():  # type: ignore[no-untyped-def]
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()
