"""Masked words: which are hidden, and behind what (Sec. 3.2, after BERT)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..models.prevalent import IGNORE
from .tokenizers import WordCodes


class Masked(NamedTuple):
    tokens: Tensor  # (..., T) int64, some replaced
    labels: Tensor  # (..., T) int64, the word at selected positions, -1 elsewhere


def mask_words(
    ids: Tensor,
    codes: WordCodes = WordCodes(),  # noqa: B008 - an immutable tuple
    probability: float = 0.15,
    generator: torch.Generator | None = None,
) -> Masked:
    """Select words of ``ids`` (..., T) and hide 80 % behind [MASK], 10 % behind a random word.

    Special ids are never selected; the random word may be any id, special ones included. The
    draws are made in the authors' order, for a whole batch at once.
    """
    special = torch.isin(ids, torch.tensor(codes.special, device=ids.device))
    chance = torch.full(ids.shape, probability, device=ids.device).masked_fill_(special, 0.0)
    selected = torch.bernoulli(chance, generator=generator).bool()
    hidden = _draw(ids, 0.8, generator) & selected
    replaced = _draw(ids, 0.5, generator) & selected & ~hidden
    words = torch.randint(
        codes.vocab_size, ids.shape, dtype=ids.dtype, device=ids.device, generator=generator
    )
    tokens = torch.where(replaced, words, ids.masked_fill(hidden, codes.mask))
    return Masked(tokens, ids.masked_fill(~selected, IGNORE))


def _draw(like: Tensor, probability: float, generator: torch.Generator | None) -> Tensor:
    chance = torch.full(like.shape, probability, device=like.device)
    return torch.bernoulli(chance, generator=generator).bool()
