"""WordPiece, offline: the encodings of R2R, pre-training, HANNA and dialogs from one vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

PAD = 0
SPECIAL_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
DIALOG_TOKENS = ("<NAV>", "ORA", "TAR")  # the authors' spelling, kept for their checkpoints
DIALOG_LENGTHS = {"none": 1, "target": 3, "oracle_ans": 70, "nav_q_oracle_ans": 80, "all": 300}
History = Literal["none", "target", "oracle_ans", "nav_q_oracle_ans", "all"]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class WordCodes(NamedTuple):
    """What masking must know of a vocabulary."""

    vocab_size: int = 30522
    mask: int = 103
    special: tuple[int, ...] = (0, 100, 101, 102, 103)  # never selected


def split_sentences(text: str) -> list[str]:
    """Sentences of ``text``, cut behind ``.``, ``!`` or ``?``.

    Deviation: the authors call NLTK's trained splitter; this rule needs no model and differs after
    abbreviations only.
    """
    return [sentence for sentence in _SENTENCE_END.split(text.strip()) if sentence]


def parse_ids(text: str, length: int = 80) -> NDArray[np.int64]:
    """(L,) ids of an underscore-joined string, as in the authors' ``R2R_SPLIT_bert.txt``."""
    return _fit([int(part) for part in text.split("_") if part], length)


def _fit(ids: Sequence[int], length: int) -> NDArray[np.int64]:
    encoded = np.full(length, PAD, dtype=np.int64)
    encoded[: min(len(ids), length)] = ids[:length]
    return encoded


def build_wordpiece_vocabulary(words: Iterable[str]) -> list[str]:
    """A vocabulary of whole ``words`` in BERT's format, for corpora with few words."""
    plain = dict.fromkeys(word for word in words if word and word not in SPECIAL_WORDS)
    return [*SPECIAL_WORDS, *plain]


class WordPieceTokenizer:
    """BERT's uncased WordPiece from a local vocabulary file.

    Args:
        vocab_path: one piece a line (``bert-base-uncased-vocab.txt``).
        max_length: L, length of every encoding.
        truncate: ``right`` keeps the start and forces [SEP] at the end; ``left`` keeps the end
            (dialogs), which loses [CLS]; ``left-keep-cls`` keeps both.
        extra_tokens: added behind the vocabulary, matched before the text is split.

    Raises:
        FileNotFoundError: there is no vocabulary file.
    """

    def __init__(
        self,
        vocab_path: str | Path,
        max_length: int = 80,
        *,
        truncate: Literal["left", "left-keep-cls", "right"] = "right",
        extra_tokens: Sequence[str] = (),
    ) -> None:
        from transformers import BertTokenizer

        path = Path(vocab_path)
        if not path.is_file():
            raise FileNotFoundError(
                f"vocabulary {path} does not exist; put BERT's uncased vocabulary there (vocab.txt "
                "of bert-base-uncased) or give another --vocabulary"
            )
        pieces = path.read_text(encoding="utf-8").split("\n")
        numbers = {piece: i for i, piece in enumerate(pieces) if piece}
        absent = [word for word in SPECIAL_WORDS if word not in numbers]
        if absent:
            raise ValueError(f"vocabulary {path} has no {absent[0]}; it is no BERT vocabulary")
        self.max_length, self.truncate = max_length, truncate
        self._tokenizer = BertTokenizer(vocab=numbers, do_lower_case=True)
        if extra_tokens:
            self._tokenizer.add_tokens(list(extra_tokens), special_tokens=True)
        self.sep = numbers["[SEP]"]
        self.codes = WordCodes(
            vocab_size=len(self._tokenizer),
            mask=numbers["[MASK]"],
            special=tuple(sorted(numbers[word] for word in SPECIAL_WORDS)),
        )

    def __len__(self) -> int:
        return self.codes.vocab_size

    def number_of(self, piece: str) -> int:
        """The id of one word piece; that of [UNK] where there is no such piece."""
        numbers = self._tokenizer.convert_tokens_to_ids([piece])
        assert isinstance(numbers, list)
        return numbers[0]

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text as it is; bracketed special words are recognized, none are added."""
        if not texts:
            return []
        return self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]

    def encode(self, text: str) -> NDArray[np.int64]:
        """(L,) ids of ``[CLS] text [SEP]``."""
        ids = self.pieces([f"[CLS] {text} [SEP]"])[0]
        if self.truncate != "right":
            kept = ids[-self.max_length :]
            if self.truncate == "left-keep-cls" and len(ids) > self.max_length:
                kept[0] = ids[0]
            return _fit(kept, self.max_length)
        encoded = _fit(ids, self.max_length)
        if len(ids) > self.max_length:
            encoded[-1] = self.sep
        return encoded

    def encode_sentences(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """(len(texts), L) ids of ``[CLS] s1 [SEP] s2 [SEP] ...``, cut without a final [SEP].

        This is the pre-training encoding.
        """
        joined = [
            "[CLS] " + " ".join(f"{sentence} [SEP]" for sentence in split_sentences(text))
            for text in texts
        ]
        rows = [_fit(ids, self.max_length) for ids in self.pieces(joined)]
        return np.array(rows, dtype=np.int64).reshape(len(rows), self.max_length)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids`` without special words and padding."""
        plain = [int(number) for number in ids]
        return str(self._tokenizer.decode(plain, skip_special_tokens=True)).strip()

    def encode_dialog(
        self, dialog: Sequence[Mapping[str, Any]], target: str, history: History
    ) -> NDArray[np.int64]:
        """(L,) ids of a dialog prefix; a target alone stands without its tag."""
        turns = dialog_turns(dialog, target, history)
        if len(turns) == 1:
            return self.encode(turns[0][1])
        return self.encode(" ".join(f"{tag} {message}" for tag, message in turns))


def dialog_turns(
    dialog: Sequence[Mapping[str, Any]], target: str, history: History
) -> list[tuple[str, str]]:
    """(tag, message) pairs that ``history`` keeps of a dialog, the target object last.

    Args:
        dialog: turns with ``role`` (navigator or oracle) and ``message``.
        target: the object to be found.
        history: ``none``; ``target``; ``oracle_ans`` (the last answer), ``nav_q_oracle_ans`` (and
            its question) or ``all`` turns, each followed by the target. Without a dialog they fall
            back to the target.
    """
    if history not in DIALOG_LENGTHS:
        raise ValueError(f"history {history!r} must be one of {', '.join(DIALOG_LENGTHS)}")
    if history == "none":
        return []
    tags = {"navigator": "<NAV>", "oracle": "<ORA>"}
    turns = [(tags[turn["role"]], turn["message"]) for turn in dialog]
    kept = {"target": 0, "oracle_ans": 1, "nav_q_oracle_ans": 2, "all": len(turns)}[history]
    return [*turns[len(turns) - min(kept, len(turns)) :], ("<TAR>", target)]
