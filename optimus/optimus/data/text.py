"""Text files to batches: token ids in flat arrays, corpora of one or many files, padded batches.

A text file is tokenised once and memory-mapped afterwards. Batches hold sentences of similar
length, endless and resumable to train, whole to score; the encoder's side can be corrupted for
denoising.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from ..runtime.checkpoint import CheckpointMismatch
from ..runtime.files import digest, json_text, why, write_atomically
from ..runtime.text_files import read_lines
from .tokenizers import Tokenizers

logger = logging.getLogger(__name__)

VERSION = 1  # of the file, shards included; a change of the arrays raises it
FILTER = 2  # of the cache of a text; a change of what is left out raises it
CHUNK = 8192  # lines handed to the tokenizers at once
PART_LINES = 1_000_000  # lines of a text that are tokenised into one file of the cache


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
    """Blank, or of characters alone that BERT's normalisation removes (U+00AD, U+200B)."""
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

    def build() -> Sentences:
        sentences = tokenize(read_sentences(path, options.format), tokenizers, options)
        if not len(sentences):
            raise ValueError(f"{path} holds no usable sentence: {sentences.counts}")
        logger.info("%s: %s", path, sentences.counts)
        return sentences

    content = [VERSION, FILTER, digest(path), tokenizers.fingerprint, asdict(options)]
    return _cached(path, json_text(content), tokenizers, cache_dir, build)


def load_large_text(
    path: str | Path,
    tokenizers: Tokenizers,
    options: TextOptions | None = None,
    cache_dir: str | Path | None = None,
) -> list[Sentences]:
    """``load_sentences`` of a text that may be larger than the memory, in parts.

    A text of more than a million lines is tokenised a million at a time into the cache, which is
    memory-mapped; a command that was cut off goes on with the first part that is missing. A
    smaller text is one part.
    """
    path, options = Path(path), options or TextOptions()
    if not path.is_file() or next(islice(read_lines(path), PART_LINES, None), None) is None:
        return [load_sentences(path, tokenizers, options, cache_dir)]
    about = [VERSION, digest(path), tokenizers.fingerprint, asdict(options), PART_LINES]
    stream = read_sentences(path, options.format)
    parts: list[Sentences] = []
    while lines := list(islice(stream, PART_LINES)):

        def build(lines: list[str] = lines) -> Sentences:
            return tokenize(lines, tokenizers, options)

        content = json_text([*about, len(parts)])
        parts.append(_cached(path, content, tokenizers, cache_dir, build))
        logger.info("%s, part %d: %s", path, len(parts), parts[-1].counts)
    return parts


def _cached(
    path: Path,
    content: str,
    tokenizers: Tokenizers,
    cache_dir: str | Path | None,
    build: Callable[[], Sentences],
) -> Sentences:
    """What ``build`` makes of ``path``, kept under a name that follows from ``content``."""
    folder = Path(cache_dir) if cache_dir is not None else path.parent / ".cache"
    key = hashlib.sha256(content.encode()).hexdigest()
    cached = folder / f"{path.stem}-{key[:20]}.safetensors"
    if cached.is_file():
        try:
            return open_sentences(cached)
        except ValueError as error:
            logger.warning("%s; it is built anew", error)
    sentences = build()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_sentences(cached, sentences, tokenizers.fingerprint)
    except OSError as error:
        logger.warning("cannot write the cache %s (%s); tokenised in memory", cached, error)
        return replace(sentences, digest=_pack(sentences)[1])
    return open_sentences(cached)


def read_sentences(path: Path, format: Literal["text", "label-text"] = "text") -> Iterator[str]:
    """Lines of a UTF-8 file without their ends, blank ones included; labels are cut off."""
    labelled = 0
    for line in read_lines(path):
        text = line.text.strip()
        label, tab, rest = text.partition("\t")
        if format == "label-text" and text:
            if not tab:
                raise line.complaint(
                    "there is no tab; the format label-text expects `label TAB sentence`, use "
                    "--data.format text for plain lines"
                )
            text = rest.strip()
        elif tab and label.isdigit():
            labelled += 1
            if labelled == line.number == 20:
                raise ValueError(
                    f"the first 20 lines of {path} all begin with a number and a tab: use "
                    "--data.format label-text, or remove the numbers"
                )
        yield text


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
        if len(left) <= 2:  # BERT's normalisation leaves nothing of a soft hyphen or such
            counts["empty"] += 1
            continue
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
    write_atomically(path, save(arrays, metadata={"note": json_text(note)}))


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
        raise ValueError(f"{path} is no file of tokenised sentences ({why(error)})") from error
    if tokenizer is not None and note["tokenizer"] != tokenizer:
        raise ValueError(
            f"{path} was tokenised with other vocabularies than the model's; "
            f"give the model those of the shards or prepare the shards again"
        )
    return Sentences(**arrays, counts=counts, digest=note["digest"])


SHARD = "shard-{:05d}.safetensors"


def load_corpus(
    folder: str | Path,
    split: str,
    tokenizers: Tokenizers,
    options: TextOptions | None = None,
    cache_dir: str | Path | None = None,
) -> list[Sentences]:
    """The sentences of ``folder/SPLIT.txt``, or for ``train`` all tokenised shards of ``folder``.

    A large ``train.txt`` is several shards, see `load_large_text`; each text may be packed as
    ``.txt.gz``. Shards are ``shard-*.safetensors`` of ``optimus prepare wikipedia``, or the
    authors' ``*.json``; they lie in ``folder`` or in ``folder/shards``.
    """
    folder = Path(folder)
    text = text_of(folder, split)
    if split == "train" and not text.is_file():
        for place in (folder / "shards", folder):
            shards = _natural(place.glob("shard-*.safetensors"))
            if shards:
                return [open_sentences(shard, tokenizers.fingerprint) for shard in shards]
            shards = _natural(p for p in place.glob("*.json") if "length_freq" not in p.name)
            if shards:
                return [load_authors_json(shard, tokenizers, cache_dir) for shard in shards]
    if not text.is_file():
        lacking = f"{folder} has no {text.name}" + (" and no shards" if split == "train" else "")
        raise FileNotFoundError(f"{lacking}; {way_to(folder)}")
    if split == "train":
        return load_large_text(text, tokenizers, options, cache_dir)
    return [load_sentences(text, tokenizers, options, cache_dir)]


def way_to(folder: Path) -> str:
    """How one comes to the corpus that was looked for in ``folder``."""
    from .prepare import CORPORA  # which imports this module

    name = folder.name if folder.name in CORPORA else "NAME"
    return f"`optimus prepare {name} --folder {folder}` writes it, --data.folder names another"


def text_of(folder: Path, split: str) -> Path:
    """``folder/SPLIT.txt``, or ``SPLIT.txt.gz``; raises ``ValueError`` where there are both."""
    plain, packed = folder / f"{split}.txt", folder / f"{split}.txt.gz"
    if plain.is_file() and packed.is_file():
        raise ValueError(f"{folder} holds {plain.name} and {packed.name}; leave one of them there")
    return packed if packed.is_file() else plain


def load_authors_json(
    path: str | Path, tokenizers: Tokenizers, cache_dir: str | Path | None = None
) -> Sentences:
    """``read_authors_json`` through a memory-mapped cache, checked against the vocabularies."""
    path = Path(path)

    def build() -> Sentences:
        sentences = read_authors_json(path)
        check_ids(sentences, tokenizers, path)
        return sentences

    content = f"{digest(path)} {tokenizers.fingerprint}"
    return _cached(path, content, tokenizers, cache_dir, build)


def read_authors_json(path: str | Path) -> Sentences:
    """Read the authors' cache or shard: a JSON list of token lists and their lengths.

    The words of a sentence are not stored there; ``words`` is 0.

    Raises:
        ValueError: the file is no such list, or a length contradicts its tokens.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file of tokenised sentences: {path}")
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        rows = []
        for number, entry in enumerate(entries):
            for side in ("bert_token", "gpt2_token"):
                if len(entry[side]) != entry[f"{side}_length"]:
                    raise ValueError(f"entry {number}: {side}_length contradicts its tokens")
            rows.append((entry["bert_token"], entry["gpt2_token"], 0, number))
        return build_sentences(rows, ReadCounts(read=len(rows), kept=len(rows)))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not in the authors' JSON format (bert_token, gpt2_token): {why(error)}"
        ) from error


def check_ids(sentences: Sentences, tokenizers: Tokenizers, path: Path) -> None:
    """Raise ``ValueError`` unless the ids can come from ``tokenizers``."""
    ends = sentences.decoder_ids[sentences.decoder_offsets[:-1]] if len(sentences) else np.zeros(0)
    fits = (
        sentences.encoder_ids.max(initial=0) < tokenizers.encoder_vocab_size
        and sentences.decoder_ids.max(initial=0) < tokenizers.decoder_vocab_size
        and bool(np.all(ends == tokenizers.bos_id))
    )
    if not fits:
        raise ValueError(
            f"{path} was tokenised with other vocabularies than the model's "
            f"({tokenizers.encoder_vocab_size} and {tokenizers.decoder_vocab_size} ids)"
        )


def _natural(paths: object) -> list[Path]:
    """Sorted so that shard 10 follows shard 9."""
    return sorted(
        paths,  # type: ignore[call-overload]
        key=lambda path: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", path.name)],
    )


Order = Literal["shuffled", "original", "original-shuffled"]


class Batch(NamedTuple):
    """B sentences, padded on the right."""

    encoder_ids: Tensor  # (B, S) long, [CLS] ... [SEP]
    encoder_mask: Tensor  # (B, S) bool, True on tokens
    decoder_ids: Tensor  # (B, T) long, <BOS> ... <EOS>
    encoder_lengths: Tensor  # (B,) with [CLS] and [SEP]
    decoder_lengths: Tensor  # (B,) with <BOS> and <EOS>
    words: Tensor  # (B,) white-space words
    index: Tensor  # type: ignore[assignment]  # (B,) number of the sentence in the corpus

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on ``device``."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


class Padding(NamedTuple):
    """Ids that fill the right end of a row."""

    decoder: int
    encoder: int = 0


def build_batch(tokenizers: Tokenizers, texts: Sequence[str]) -> Batch:
    """One batch of ``texts`` in their order; nothing is filtered or cut."""
    rows = zip(
        tokenizers.encode_encoder(texts),
        tokenizers.encode_decoder(texts),
        [len(text.split()) for text in texts],
        range(len(texts)),
        strict=True,
    )
    padding = Padding(tokenizers.pad_id, tokenizers.encoder_pad_id)
    return gather(build_sentences(list(rows)), np.arange(len(texts)), padding)


def gather(sentences: Sentences, chosen: np.ndarray, padding: Padding, first: int = 0) -> Batch:
    """The ``chosen`` sentences as a batch; ``first`` is the corpus number of sentence 0."""
    left, left_lengths = pad_rows([sentences.encoder(i) for i in chosen], padding.encoder)
    right, right_lengths = pad_rows([sentences.decoder(i) for i in chosen], padding.decoder)
    mask = torch.arange(left.shape[1]) < left_lengths[:, None]
    words = torch.from_numpy(np.asarray(sentences.words[chosen], dtype=np.int64))
    index = torch.from_numpy(np.asarray(chosen, dtype=np.int64) + first)
    return Batch(left, mask, right, left_lengths, right_lengths, words, index)


def pad_rows(rows: Sequence[np.ndarray], fill: int) -> tuple[Tensor, Tensor]:
    """Rows of ids as one (B, T) tensor and their lengths (B,)."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    padded = np.full((len(rows), int(lengths.max(initial=0))), fill, dtype=np.int64)
    if len(rows):
        padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return torch.from_numpy(padded), torch.from_numpy(lengths)


def cut_into_batches(order: np.ndarray, lengths: np.ndarray, size: int, bucket: int) -> np.ndarray:
    """Batches (N // size, size) of sentence numbers, incomplete ones left out.

    ``order`` (N,) is cut into buckets of ``bucket`` batches; inside a bucket the sentences are
    sorted by ``lengths``, longest first and otherwise in their order.
    """
    batches = []
    for start in range(0, len(order), bucket * size):
        part = order[start : start + bucket * size]
        part = part[np.argsort(-lengths[part], kind="stable")]
        batches.append(part[: len(part) // size * size].reshape(-1, size))
    return np.concatenate(batches) if batches else np.zeros((0, size), dtype=np.int64)


class Batches:
    """Endless training batches over one or many shards, with an exact position.

    The batch of all processes together is fixed by ``seed`` and the position, and split by rows:
    two processes of 8 sentences see what one of 16 sees. An incomplete batch at the end of a shard
    is left out of its epoch.

    Args:
        shards: tokenised sentences; one epoch visits every shard.
        batch_size: sentences of this process in a batch.
        padding: ids for the right end of a row.
        order: ``shuffled`` draws a new order each epoch. ``original`` is the authors': file order,
            bucketed, the same each epoch; ``original-shuffled`` is their shuffling loader, with
            Python's generator.
        bucket: batches among which sentences are sorted by length.
        rank, world_size: this process and the number of processes.
        beside: digest of what belongs to the sentences, such as their labels.
    """

    def __init__(
        self,
        shards: Sentences | Sequence[Sentences],
        batch_size: int,
        padding: Padding,
        *,
        seed: int = 42,
        order: Order = "shuffled",
        bucket: int = 100,
        rank: int = 0,
        world_size: int = 1,
        beside: str = "",
    ) -> None:
        self.shards = [shards] if isinstance(shards, Sentences) else list(shards)
        self.padding, self.seed, self.order, self.bucket = padding, seed, order, bucket
        self.rank, self.world_size = rank, world_size
        self.global_batch = batch_size * world_size
        self.position = 0  # batches of all processes together, so that every rank agrees
        sizes = np.array([len(shard) for shard in self.shards], dtype=np.int64)
        self._first = np.concatenate([[0], np.cumsum(sizes)])
        self._per_shard = sizes // max(self.global_batch, 1)
        self.batches_per_epoch = int(self._per_shard.sum())
        if batch_size < 1 or not self.batches_per_epoch:
            raise ValueError(
                f"a batch of {self.global_batch} sentences cannot be drawn from a corpus of "
                f"{int(sizes.sum())} in {len(sizes)} file(s): give a --data.batch-size from 1 to "
                f"{int(sizes.max(initial=0))}, or more sentences"
            )
        digests = [shard.digest or _pack(shard)[1] for shard in self.shards]
        self._content = hashlib.sha256(" ".join([*digests, beside]).encode()).hexdigest()
        self._plan: tuple[tuple[int, int], np.ndarray] | None = None

    @property
    def epoch(self) -> float:
        """Passes over the corpus so far."""
        return self.position / self.batches_per_epoch

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Batch:
        epoch, index = divmod(self.position, self.batches_per_epoch)
        visits = self._visits(epoch)
        ends = np.cumsum(self._per_shard[visits])
        turn = int(np.searchsorted(ends, index, side="right"))
        shard = int(visits[turn])
        number = index - int(ends[turn] - self._per_shard[shard])
        chosen = self._batches_of(epoch, shard)[number][self.rank :: self.world_size]
        self.position += 1
        return gather(self.shards[shard], chosen, self.padding, int(self._first[shard]))

    def state_dict(self) -> dict[str, Any]:
        """The position, and what it refers to."""
        return {
            "position": self.position,
            "fingerprint": self._fingerprint(),
            "sentences": int(self._first[-1]),
            "batch": self.global_batch,
            "content": self._content,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at a saved position; the number of processes may differ, the rest may not."""
        same_content = state.get("content", self._content) == self._content
        if state["fingerprint"] != self._fingerprint() or not same_content:
            before = [state.get(name) for name in ("sentences", "batch")]  # None: version 0.1
            now = [int(self._first[-1]), self.global_batch]
            problem = "their content, order or seed is another"
            if None not in before and before != now:
                problem = f"it was trained on {before[0]} in batches of {before[1]}"
            raise CheckpointMismatch(
                f"the run has not seen these {now[0]} sentences in batches of {now[1]}: {problem}; "
                "give the corpus that it was started with, or another --run-dir"
            )
        self.position = int(state["position"])

    def _fingerprint(self) -> str:
        sizes = [[len(s), int(s.encoder_offsets[-1]), s.digest] for s in self.shards]
        content = [sizes, self.global_batch, self.order, self.bucket, self.seed]
        return hashlib.sha256(json_text(content).encode()).hexdigest()

    def _visits(self, epoch: int) -> np.ndarray:
        """Order of the shards in an epoch."""
        if self.order == "shuffled":
            return np.random.default_rng([self.seed, epoch]).permutation(len(self.shards))
        return np.arange(len(self.shards))

    def _batches_of(self, epoch: int, shard: int) -> np.ndarray:
        """All global batches (number, global batch) of a shard in an epoch."""
        if self._plan is None or self._plan[0] != (epoch, shard):
            self._plan = (epoch, shard), self._draw(epoch, shard)
        return self._plan[1]

    def _draw(self, epoch: int, shard: int) -> np.ndarray:
        sentences, size = self.shards[shard], self.global_batch
        count = len(sentences)
        if self.order == "shuffled":
            generator = np.random.default_rng([self.seed, epoch, shard])
            lengths = sentences.encoder_lengths + sentences.decoder_lengths
            order = generator.permutation(count)
            return generator.permutation(cut_into_batches(order, lengths, size, self.bucket))
        lengths = sentences.encoder_lengths
        if self.order == "original":
            return cut_into_batches(np.arange(count), lengths, size, self.bucket)
        python = random.Random(self.seed)
        for _ in range(epoch + 1):  # one stream through all epochs, as in the authors' loader
            numbers = list(range(count))
            python.shuffle(numbers)
            batches = cut_into_batches(np.array(numbers), lengths, size, self.bucket).tolist()
            python.shuffle(batches)
        return np.array(batches)


def evaluation_batches(
    sentences: Sentences,
    batch_size: int,
    padding: Padding,
    *,
    rank: int = 0,
    world_size: int = 1,
    order: Literal["sorted", "original"] = "sorted",
) -> Iterator[Batch]:
    """Every sentence once, none left out; ``sorted`` batches similar lengths, longest first.

    Rank r takes batches r, r + world_size, ...; ``Batch.index`` restores the order of the file.
    """
    if batch_size < 1:
        raise ValueError(f"the batch size must be at least 1, got {batch_size}")
    chosen = np.arange(len(sentences))
    if order == "sorted":
        chosen = np.lexsort((-sentences.encoder_lengths, -sentences.decoder_lengths))
    for start in range(rank * batch_size, len(chosen), world_size * batch_size):
        yield gather(sentences, chosen[start : start + batch_size], padding)


def corrupt_tokens(
    ids: Tensor,
    eligible: Tensor,
    mask_id: int,
    vocab_size: int,
    *,
    probability: float = 0.15,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Corrupt each eligible token of ``ids`` (B, S) independently with ``probability``.

    80 % of the chosen tokens become ``mask_id``, 10 % a random id, 10 % stay. Draws are made on
    the CPU, so that a seed gives the same tokens on every device. Returns a new (B, S) tensor.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"the share of corrupted tokens must be in [0, 1], got {probability}")
    draws = torch.rand((3, *ids.shape), generator=generator).to(ids.device)
    others = torch.randint(vocab_size, ids.shape, generator=generator).to(ids.device)
    chosen = (draws[0] < probability) & eligible
    masked = chosen & (draws[1] < 0.8)
    replaced = chosen & ~masked & (draws[2] < 0.5)
    return torch.where(masked, mask_id, torch.where(replaced, others, ids))


Corrupted = TypeVar("Corrupted", bound=Any)


def corrupt(
    batch: Corrupted,
    tokenizers: Tokenizers,
    probability: float = 0.15,
    *,
    generator: torch.Generator | None = None,
) -> Corrupted:
    """``batch`` with a corrupted encoder side; labels, mask and lengths are untouched.

    It is a named tuple with ``encoder_ids`` and ``encoder_mask``.

    Deviation: the authors let [CLS], [SEP] and padding be corrupted too.
    """
    ids = batch.encoder_ids
    eligible = batch.encoder_mask & (ids != tokenizers.cls_id) & (ids != tokenizers.sep_id)
    corrupted = corrupt_tokens(
        ids,
        eligible,
        tokenizers.mask_id,
        tokenizers.encoder_vocab_size,
        probability=probability,
        generator=generator,
    )
    return batch._replace(encoder_ids=corrupted)
