"""Dialog turns: a context, its utterances joined by [SEP], and the response (Sec. 4.2).

A line of a file is ``context TAB response``. Batches are drawn from the responses with ``Batches``
or ``evaluation_batches``; ``Dialogs.with_contexts`` adds the other side.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .batches import Batch, Padding, pad_rows
from .sentences import Sentences, build_sentences, cut_tokens
from .tokenizers import Tokenizers

logger = logging.getLogger(__name__)
SEPARATOR = " [SEP] "


class DialogBatch(NamedTuple):
    """B turns, padded on the right."""

    context_ids: Tensor  # (B, C) long, [CLS] utterance [SEP] ... utterance [SEP]
    context_mask: Tensor  # (B, C) bool, True on tokens
    response: Batch

    def to(self, device: torch.device | str) -> DialogBatch:
        """The same batch on ``device``."""
        ids, mask = (t.to(device, non_blocking=True) for t in self[:2])
        return DialogBatch(ids, mask, self.response.to(device))


@dataclass(frozen=True)
class Dialogs:
    """N contexts (WordPiece ids) and their responses (tokenised on both sides)."""

    contexts: list[np.ndarray]
    responses: Sentences

    def __len__(self) -> int:
        return len(self.responses)

    def with_contexts(self, responses: Batch, padding: Padding) -> DialogBatch:
        """Put the contexts beside a batch that was drawn from ``self.responses``."""
        rows = [self.contexts[i] for i in responses.index.tolist()]
        ids, lengths = pad_rows(rows, padding.encoder)
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        return DialogBatch(ids, mask, responses)


def read_turns(path: str | Path) -> Iterator[tuple[str, str]]:
    """Pairs (context, response) of a file; blank lines are left out.

    Raises:
        ValueError: a line has no tab or an empty side.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no dialog file {path}; `optimus prepare dailydialog` writes one, with lines "
            f"`context TAB response`"
        )
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if "__eou__" in line:
                raise ValueError(
                    f"line {number} of {path} has a context without the separator [SEP]: its "
                    "utterances are marked by __eou__; convert the file with `optimus prepare "
                    "dailydialog --source FOLDER`"
                )
            context, _, response = (part.strip() for part in line.partition("\t"))
            if not context or not response:
                raise ValueError(f"line {number} of {path} is not `context TAB response`")
            yield context, response


def load_dialogs(
    path: str | Path, tokenizers: Tokenizers, *, max_tokens: int = 512, keep_cls: bool = True
) -> Dialogs:
    """Tokenise ``path``; a context keeps its last ``max_tokens`` tokens, a response its first.

    Deviation: the authors keep the last tokens of both sides and lose [CLS] in this;
    ``keep_cls=False`` restores that.

    A literal `` EOS `` between utterances, which other dialog corpora have, counts as [SEP].
    """
    turns = list(read_turns(path))
    if not turns:
        raise ValueError(f"{path} holds no dialog turn")
    if not any(mark in context for context, _ in turns for mark in ("[SEP]", " EOS ")):
        logger.warning("no context of %s has the separator [SEP]: all are one utterance", path)
    contexts = tokenizers.encode_encoder([c.replace(" EOS ", SEPARATOR) for c, _ in turns])
    texts = [response for _, response in turns]
    rows = []
    for number, (left, right) in enumerate(
        zip(tokenizers.encode_encoder(texts), tokenizers.encode_decoder(texts), strict=True)
    ):
        if keep_cls:
            left, right = cut_tokens(left, max_tokens), cut_tokens(right, max_tokens)
        else:
            left, right = left[-max_tokens:], right[-max_tokens:]
        rows.append((left, right, len(texts[number].split()), number))
    kept = [np.array(_recent(ids, max_tokens, keep_cls)) for ids in contexts]
    return Dialogs(kept, build_sentences(rows))


def _recent(ids: Sequence[int], limit: int, keep_cls: bool) -> list[int]:
    if len(ids) <= limit:
        return list(ids)
    return [ids[0], *ids[1 - limit :]] if keep_cls else list(ids[-limit:])
