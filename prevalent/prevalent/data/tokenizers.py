"""WordPiece, offline: the encodings of R2R, pre-training, HANNA and dialogs from one vocabulary."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..runtime.files import write_atomically

PAD_PIECE = 0
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
    encoded = np.full(length, PAD_PIECE, dtype=np.int64)
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
        separate_sentences: `encode` gives the encoding of pre-training, `encode_sentences`.

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
        separate_sentences: bool = False,
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
        self.separate_sentences = separate_sentences
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
        """(L,) ids of ``[CLS] text [SEP]``, or with a [SEP] behind every sentence."""
        if self.separate_sentences:
            return self.encode_sentences([text])[0]
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


def open_words(path: Path, max_length: int) -> WordTokenizer:
    """The tokenizer with the word vocabulary at ``path``."""
    return WordTokenizer(read_vocabulary(path), max_length)
