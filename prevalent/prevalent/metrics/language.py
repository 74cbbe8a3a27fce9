"""Corpus BLEU of generated instructions (Papineni et al., ACL 2002), by sacrebleu.

The authors score with the reference implementation of machine translation of 2017: n-gram matches
clipped over all references, and the *shortest* reference's length for the brevity penalty, where
sacrebleu takes the closest. The n-gram counts are sacrebleu's; the penalty is chosen here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from sacrebleu.metrics import BLEU


class BleuScore(NamedTuple):
    """Corpus BLEU and its parts."""

    bleu: float  # in [0, 1]
    precisions: list[float]
    brevity_penalty: float
    ratio: float
    length: int
    reference_length: int


def corpus_bleu(
    references: Sequence[Sequence[Sequence[str]]],
    candidates: Sequence[Sequence[str]],
    *,
    max_order: int = 4,
    smooth: bool = False,
    reference_length: Literal["shortest", "closest"] = "shortest",
) -> BleuScore:
    """BLEU of tokenised candidates against several references each.

    Args:
        references: for each candidate, its references, each a list of words.
        candidates: lists of words.
        max_order: longest n-gram.
        smooth: add one to matches and totals of every order.
        reference_length: ``shortest`` as in the authors' scorer, ``closest`` as in sacrebleu.
    """
    if len(references) != len(candidates):
        raise ValueError(
            f"{len(candidates)} candidates need as many sets of references, got {len(references)}"
        )
    words = [" ".join(candidate) for candidate in candidates]
    widest = max(len(group) for group in references)
    columns: list[Any] = [
        [" ".join(group[i]) if i < len(group) else None for group in references]
        for i in range(widest)
    ]
    metric = BLEU(max_ngram_order=max_order, tokenize="none", smooth_method="none", force=True)
    counted = metric.corpus_score(words, columns)
    add = 1.0 if smooth else 0.0
    totals = [total + add for total in counted.totals]
    precisions = [
        (match + add) / total if total > 0 else 0.0
        for match, total in zip(counted.counts, totals, strict=True)
    ]
    length = sum(map(len, candidates))
    wanted = counted.ref_len
    if reference_length == "shortest":
        wanted = sum(min(map(len, group)) for group in references)
    penalty = 1.0 if length > wanted else math.exp(1 - wanted / length) if length else 0.0
    mean = math.exp(sum(map(math.log, precisions)) / max_order) if min(precisions) > 0 else 0.0
    return BleuScore(mean * penalty, precisions, penalty, length / wanted, length, wanted)
