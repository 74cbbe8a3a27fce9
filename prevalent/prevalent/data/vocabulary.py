"""Words: how the R2R code bases split, count and number them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.files import write_atomically
from .tokenizers import History, dialog_turns

PAD, UNK, EOS = 0, 1, 2
START_WORDS = ("<PAD>", "<UNK>", "<EOS>")
BOS_WORD = "<BOS>"
DIALOG_WORDS = ("<PAD>", "<UNK>", "<NAV>", "<ORA>", "<TAR>", "<EOS>")

_SEPARATORS = re.compile(r"(\W+)")
_PUNCTUATION = set(string.punctuation)


def split_words(text: str) -> list[str]:
    """Lower-cased words and separators of ``text``.

    Runs of punctuation become single characters, except runs of full stops; a run with a space
    inside, such as ``") &"``, stays whole, as in the authors' code.
    """
    words: list[str] = []
    for part in _SEPARATORS.split(text.strip().lower()):
        part = part.strip()
        if part and _PUNCTUATION.issuperset(part) and set(part) != {"."}:
            words += part
        elif part:
            words.append(part)
    return words


def build_vocabulary(texts: Iterable[str], min_count: int = 5) -> list[str]:
    """Start words, then all words seen ``min_count`` times or more, most frequent first."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split_words(text))
    frequent = [word for word, count in counts.most_common() if count >= min_count]
    return [*START_WORDS, *frequent]


def read_vocabulary(path: str | Path, start: tuple[str, ...] = START_WORDS) -> list[str]:
    """One word a line, in UTF-8; a word's number is that of its line.

    Raises ``ValueError`` where the words of ``start`` are not first or a line is blank, which would
    shift the numbers of all words behind it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"word vocabulary {path} does not exist; `prevalent prepare r2r` or `prevalent prepare "
            "hanna` writes one; or give another --words"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); make or fetch it again") from None
    words = [line.strip() for line in text.rstrip().split("\n")]
    if tuple(words[: len(start)]) != start:
        raise ValueError(f"{path} must begin with {', '.join(start)}")
    if "" in words:
        raise ValueError(
            f"{path} has a blank line {words.index('') + 1}, so that the words behind it would "
            "lose their numbers; make or fetch it again"
        )
    return words


def write_vocabulary(path: str | Path, words: Sequence[str]) -> None:
    write_atomically(path, "\n".join(words) + "\n")


class WordTokenizer:
    """Numbers for words: ``[BOS] words [EOS]``, padded to a fixed length.

    Args:
        words: the vocabulary; BOS is added behind it.
        max_length: L, length of every encoding.
    """

    def __init__(self, words: Sequence[str], max_length: int = 80) -> None:
        self.words = [*words, BOS_WORD]
        self.max_length = max_length
        self.bos = len(words)
        self._numbers = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    @property
    def vocab_size(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> NDArray[np.int64] | None:
        """(L,) word numbers, None where there is no word; a cut text still ends with EOS."""
        words = split_words(text)
        if not words:
            return None
        ids = [self.bos, *(self._numbers.get(word, UNK) for word in words), EOS]
        if len(ids) > self.max_length:
            ids = [*ids[: self.max_length - 1], EOS]
        encoded = np.full(self.max_length, PAD, dtype=np.int64)
        encoded[: len(ids)] = ids
        return encoded

    def decode(self, ids: Iterable[int]) -> str:
        """Words up to the first padding."""
        words = []
        for number in ids:
            if number == PAD:
                break
            words.append(self.words[number])
        return " ".join(words)

    def shrink(self, ids: Sequence[int]) -> list[int]:
        """Without a leading BOS and from the first EOS on; empty where there is no EOS."""
        plain = [int(number) for number in ids]
        if EOS not in plain:
            return []
        start = 1 if plain[0] == self.bos else 0
        return plain[start : plain.index(EOS)]


class DialogWordTokenizer:
    """Numbers for the words of a dialog (NDH): every turn reversed behind its tag, one final EOS.

    Args:
        words: an R2R vocabulary; its start words give way to those of dialogs.
        max_length: L; a longer dialog keeps its end.
    """

    def __init__(self, words: Sequence[str], max_length: int) -> None:
        plain = [word for word in words if word not in START_WORDS]
        self.words = [*DIALOG_WORDS, *plain]
        self.max_length = max_length
        self._numbers = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode_dialog(
        self, dialog: Sequence[Mapping[str, Any]], target: str, history: History
    ) -> NDArray[np.int64]:
        """(L,) word numbers, padded with 0; see `dialog_turns`."""
        ids: list[int] = []
        for tag, message in dialog_turns(dialog, target, history):
            ids.append(self._numbers[tag])
            ids += [self._numbers.get(word, UNK) for word in reversed(split_words(message))]
        ids = [*ids, self._numbers["<EOS>"]][-self.max_length :]
        encoded = np.full(self.max_length, PAD, dtype=np.int64)
        encoded[: len(ids)] = ids
        return encoded
