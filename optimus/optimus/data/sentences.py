"""A text file as flat arrays of token ids, tokenised once and memory-mapped afterwards."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save

from ..runtime.files import digest, write_atomically
from .tokenizers import Tokenizers

logger = logging.getLogger(__name__)

VERSION = 1  # of the cache; a change of the arrays or of the filter raises it
CHUNK = 8192  # lines handed to the tokenizers at once


@dataclass(frozen=True)
class TextOptions:
    """Which lines of a text file become sentences.

    The authors filter by white-space words alone, so that a line of many word pieces stops BERT;
    here token counts are bounded as well.
    """

    max_words: int = 510
    """Lines of more white-space words are left out."""
    max_encoder_tokens: int = 512
    """Bound on WordPiece tokens, [CLS] and [SEP] included (BERT has 512 positions)."""
    max_decoder_tokens: int = 1023
    """Bound on BPE tokens, <BOS> and <EOS> included (GPT-2 has 1024 positions, z takes one)."""
    overlong: Literal["skip", "truncate"] = "skip"
    """What happens to a sentence of more tokens."""
    format: Literal["text", "label-text"] = "text"
    """text: a sentence a line; label-text: label TAB sentence, the label is left out."""

    def __post_init__(self) -> None:
        for name in ("max_words", "max_encoder_tokens", "max_decoder_tokens"):
            least = 1 if name == "max_words" else 3
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class ReadCounts:
    """What became of the lines of a file."""

    read: int = 0
    empty: int = 0
    too_many_words: int = 0
    too_many_tokens: int = 0
    truncated: int = 0
    kept: int = 0

    def __str__(self) -> str:
        parts = [f"{self.kept} of {self.read} lines kept"]
        for name in ("empty", "too_many_words", "too_many_tokens", "truncated"):
            if getattr(self, name):
                parts.append(f"{getattr(self, name)} {name.replace('_', ' ')}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Sentences:
    """N tokenised sentences; sentence i is ``ids[offsets[i]:offsets[i + 1]]`` on either side."""

    encoder_ids: np.ndarray  # flat, with [CLS] and [SEP]
    encoder_offsets: np.ndarray  # (N + 1,)
    decoder_ids: np.ndarray  # flat, with <BOS> and <EOS>
    decoder_offsets: np.ndarray  # (N + 1,)
    words: np.ndarray  # (N,) white-space words
    lines: np.ndarray  # (N,) line of the file, from 0
    counts: ReadCounts = field(default_factory=ReadCounts)
    digest: str = ""

    def __len__(self) -> int:
        return len(self.words)

    def encoder(self, index: int) -> np.ndarray:
        """WordPiece ids of one sentence."""
        return self.encoder_ids[self.encoder_offsets[index] : self.encoder_offsets[index + 1]]

    def decoder(self, index: int) -> np.ndarray:
        """BPE ids of one sentence."""
        return self.decoder_ids[self.decoder_offsets[index] : self.decoder_offsets[index + 1]]

    @property
    def encoder_lengths(self) -> np.ndarray:
        """(N,) WordPiece tokens, [CLS] and [SEP] included."""
        return np.diff(self.encoder_offsets)

    @property
    def decoder_lengths(self) -> np.ndarray:
        """(N,) BPE tokens, <BOS> and <EOS> included: m + 2 for m tokens of text."""
        return np.diff(self.decoder_offsets)


def load_sentences(
    path: str | Path,
    tokenizers: Tokenizers,
    options: TextOptions | None = None,
    cache_dir: str | Path | None = None,
) -> Sentences:
    """Sentences of a text file, from the cache if the same file was tokenised the same way before.

    The cache lies in ``cache_dir`` (default: ``.cache`` beside the file). Its name holds a digest
    of the file's content, the vocabularies and ``options``, so it can never be stale; where it
    cannot be written the file is tokenised each time.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no sentence is left, the text is not UTF-8, or it has another format.
    """
    path, options = Path(path), options or TextOptions()
    if not path.is_file():
        raise FileNotFoundError(
            f"no text file {path}; `optimus prepare` writes corpora as train.txt, valid.txt and "
            f"test.txt, one sentence a line"
        )
    content = [VERSION, digest(path), tokenizers.fingerprint, asdict(options)]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    folder = Path(cache_dir) if cache_dir is not None else path.parent / ".cache"
    cached = folder / f"{path.stem}-{key[:20]}.safetensors"
    if cached.is_file():
        try:
            return open_sentences(cached)
        except ValueError as error:
            logger.warning("%s; it is built anew", error)
    sentences = tokenize(read_lines(path, options.format), tokenizers, options)
    if not len(sentences):
        raise ValueError(f"{path} holds no usable sentence: {sentences.counts}")
    logger.info("%s: %s", path, sentences.counts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_sentences(cached, sentences, tokenizers.fingerprint)
    except OSError as error:
        logger.warning("cannot write the cache %s (%s); tokenised in memory", cached, error)
        return replace(sentences, digest=_pack(sentences)[1])
    return open_sentences(cached)


def read_lines(path: Path, format: Literal["text", "label-text"] = "text") -> Iterator[str]:
    """Lines of a UTF-8 file without their ends, blank ones included; labels are cut off."""
    labelled = 0
    with path.open(encoding="utf-8-sig") as file:  # -sig: a byte-order mark is no token
        try:
            for number, line in enumerate(file, start=1):
                line = line.strip()
                label, tab, text = line.partition("\t")
                if format == "label-text" and line:
                    if not tab:
                        raise ValueError(
                            f"line {number} of {path} has no tab; the format label-text expects "
                            f"`label TAB sentence`, use --data.format text for plain lines"
                        )
                    line = text.strip()
                elif tab and label.isdigit():
                    labelled += 1
                    if labelled == number == 20:
                        raise ValueError(
                            f"every line of {path} begins with a number and a tab: "
                            f"use --data.format label-text, or remove the numbers"
                        )
                yield line
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is not UTF-8 text ({error.reason}); convert it, for example with iconv"
            ) from error


def tokenize(lines: Iterable[str], tokenizers: Tokenizers, options: TextOptions) -> Sentences:
    """Filter and tokenise ``lines``; counts tell what was left out."""
    counts = dict.fromkeys(asdict(ReadCounts()), 0)
    parts: list[Sentences] = []
    stream = enumerate(lines)
    while chunk := list(islice(stream, CHUNK)):
        counts["read"] += len(chunk)
        parts.append(_tokenize_chunk(chunk, tokenizers, options, counts))
    return join_sentences(parts, ReadCounts(**counts))


def _tokenize_chunk(
    chunk: list[tuple[int, str]],
    tokenizers: Tokenizers,
    options: TextOptions,
    counts: dict[str, int],
) -> Sentences:
    kept, words = [], []
    for number, line in chunk:
        size = len(line.split())
        if size == 0 or size > options.max_words:
            counts["empty" if size == 0 else "too_many_words"] += 1
            continue
        kept.append((number, line))
        words.append(size)
    texts = [line for _, line in kept]
    encoder, decoder = tokenizers.encode_encoder(texts), tokenizers.encode_decoder(texts)
    rows = []
    for index, (left, right) in enumerate(zip(encoder, decoder, strict=True)):
        limits = options.max_encoder_tokens, options.max_decoder_tokens
        if len(left) > limits[0] or len(right) > limits[1]:
            if options.overlong == "skip":
                counts["too_many_tokens"] += 1
                continue
            counts["truncated"] += 1
            left, right = cut_tokens(left, limits[0]), cut_tokens(right, limits[1])
        rows.append((left, right, words[index], kept[index][0]))
    counts["kept"] += len(rows)
    return build_sentences(rows)


def cut_tokens(ids: list[int], limit: int) -> list[int]:
    """The first ``limit`` ids, of which the last is the closing token of ``ids``."""
    return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]


def build_sentences(
    rows: Sequence[tuple[Sequence[int], Sequence[int], int, int]],
    counts: ReadCounts | None = None,
) -> Sentences:
    """Flat arrays of rows (encoder ids, decoder ids, words, line)."""
    left, left_offsets = _flatten([row[0] for row in rows])
    right, right_offsets = _flatten([row[1] for row in rows])
    words = np.array([row[2] for row in rows], dtype=np.int32)
    lines = np.array([row[3] for row in rows], dtype=np.int64)
    arrays = (left, left_offsets, right, right_offsets, words, lines)
    return Sentences(*arrays, counts or ReadCounts(read=len(rows), kept=len(rows)))


def _flatten(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    flat = np.fromiter((i for row in rows for i in row), dtype=np.int32, count=int(offsets[-1]))
    return flat, offsets


def join_sentences(parts: Sequence[Sentences], counts: ReadCounts | None = None) -> Sentences:
    """One after the other in one set of arrays."""
    if not parts:
        return build_sentences([], counts or ReadCounts())
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("encoder_ids", "decoder_ids", "words", "lines")
    }
    for side in ("encoder", "decoder"):
        lengths = np.concatenate([getattr(part, f"{side}_lengths") for part in parts])
        arrays[f"{side}_offsets"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    kept = ReadCounts(read=len(arrays["words"]), kept=len(arrays["words"]))
    return Sentences(**arrays, counts=counts or kept)


def save_sentences(path: str | Path, sentences: Sentences, tokenizer: str) -> None:
    """Write one safetensors file, whole or not at all; ``tokenizer`` is the fingerprint."""
    arrays, content = _pack(sentences)
    note = {
        "counts": asdict(sentences.counts),
        "digest": content,
        "tokenizer": tokenizer,
        "version": VERSION,
    }
    # one entry: safetensors writes several in no fixed order, and equal shards shall be equal files
    write_atomically(path, save(arrays, metadata={"note": json.dumps(note)}))


def _pack(sentences: Sentences) -> tuple[dict[str, np.ndarray], str]:
    """Arrays as they are stored, and the digest of their content."""
    arrays = {name: np.ascontiguousarray(getattr(sentences, name)) for name in ARRAYS}
    for name in ("encoder_ids", "decoder_ids"):
        if not arrays[name].size or arrays[name].max() < 1 << 16:
            arrays[name] = arrays[name].astype(np.uint16)  # BERT's and GPT-2's ids fit
    content = hashlib.sha256()
    for name in ARRAYS:
        content.update(arrays[name].tobytes())
    return arrays, content.hexdigest()


ARRAYS = ("encoder_ids", "encoder_offsets", "decoder_ids", "decoder_offsets", "words", "lines")
_TYPES = {"U16": np.uint16, "I32": np.int32, "I64": np.int64}


def open_sentences(path: str | Path, tokenizer: str | None = None) -> Sentences:
    """Map a file of ``save_sentences`` into memory; nothing is read until it is used.

    Raises:
        ValueError: the file is damaged, or was made with a tokenizer other than ``tokenizer``.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            if not 8 < start <= min(size, 1 << 20):
                raise ValueError("no header")
            header = json.loads(file.read(start - 8))
        note = json.loads(header["__metadata__"]["note"])
        if note["version"] != VERSION:
            raise ValueError(f"version {note['version']}, this program reads {VERSION}")
        arrays: dict[str, Any] = {}
        for name in ARRAYS:
            begin, end = header[name]["data_offsets"]
            if start + end > size:
                raise ValueError("the end is missing")
            kind, shape = np.dtype(_TYPES[header[name]["dtype"]]), tuple(header[name]["shape"])
            empty = np.zeros(shape, dtype=kind)  # an empty range cannot be mapped
            arrays[name] = (
                np.memmap(path, kind, "r", start + begin, shape) if end > begin else empty
            )
        counts = ReadCounts(**note["counts"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no file of tokenised sentences ({error})") from error
    if tokenizer is not None and note["tokenizer"] != tokenizer:
        raise ValueError(
            f"{path} was tokenised with other vocabularies than the model's; "
            f"give the model those of the shards or prepare the shards again"
        )
    return Sentences(**arrays, counts=counts, digest=note["digest"])
