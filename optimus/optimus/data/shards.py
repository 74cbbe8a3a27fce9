"""Corpora on disk: a folder of text files or of tokenised shards, and the authors' JSON format."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..runtime.files import digest
from .sentences import (
    ReadCounts,
    Sentences,
    TextOptions,
    build_sentences,
    load_sentences,
    open_sentences,
    save_sentences,
)
from .tokenizers import Tokenizers

logger = logging.getLogger(__name__)

SHARD = "shard-{:05d}.safetensors"


def load_corpus(
    folder: str | Path,
    split: str,
    tokenizers: Tokenizers,
    options: TextOptions | None = None,
    cache_dir: str | Path | None = None,
) -> list[Sentences]:
    """The sentences of ``folder/SPLIT.txt``, or for ``train`` all tokenised shards of ``folder``.

    Shards are ``shard-*.safetensors`` of ``optimus prepare wikipedia``, or the authors' ``*.json``;
    they lie in ``folder`` or in ``folder/shards``.
    """
    folder = Path(folder)
    text = folder / f"{split}.txt"
    if split == "train" and not text.is_file():
        for place in (folder / "shards", folder):
            shards = _natural(place.glob("shard-*.safetensors"))
            if shards:
                return [open_sentences(shard, tokenizers.fingerprint) for shard in shards]
            shards = _natural(p for p in place.glob("*.json") if "length_freq" not in p.name)
            if shards:
                return [load_authors_json(shard, tokenizers, cache_dir) for shard in shards]
    if not text.is_file():
        raise FileNotFoundError(
            f"{folder} has no {text.name}" + (" and no shards" if split == "train" else "") + "; "
            "`optimus prepare NAME` writes a corpus, and --data.folder names its folder"
        )
    return [load_sentences(text, tokenizers, options, cache_dir)]


def load_authors_json(
    path: str | Path, tokenizers: Tokenizers, cache_dir: str | Path | None = None
) -> Sentences:
    """``read_authors_json`` through a memory-mapped cache, checked against the vocabularies."""
    path = Path(path)
    key = hashlib.sha256(f"{digest(path)} {tokenizers.fingerprint}".encode()).hexdigest()
    folder = Path(cache_dir) if cache_dir is not None else path.parent / ".cache"
    cached = folder / f"{path.stem}-{key[:20]}.safetensors"
    if cached.is_file():
        try:
            return open_sentences(cached)
        except ValueError as error:
            logger.warning("%s; it is built anew", error)
    sentences = read_authors_json(path)
    check_ids(sentences, tokenizers, path)
    folder.mkdir(parents=True, exist_ok=True)
    save_sentences(cached, sentences, tokenizers.fingerprint)
    return open_sentences(cached)


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
            f"{path} is not in the authors' JSON format (bert_token, gpt2_token): {error}"
        ) from error


def write_authors_json(path: str | Path, sentences: Sentences) -> None:
    """Write ``sentences`` in the authors' cache format."""
    entries = []
    for i in range(len(sentences)):
        left, right = sentences.encoder(i).tolist(), sentences.decoder(i).tolist()
        entry = {"bert_token": left, "bert_token_length": len(left)}
        entries.append({**entry, "gpt2_token": right, "gpt2_token_length": len(right)})
    Path(path).write_text(json.dumps(entries), encoding="utf-8")


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


def filter_lengths(sentences: Sentences, limit: int) -> Sentences:
    """Sentences of at most ``limit`` tokens on both sides, as the authors' filter script keeps."""
    lengths = np.maximum(sentences.encoder_lengths, sentences.decoder_lengths)
    rows = [
        (
            sentences.encoder(i).tolist(),
            sentences.decoder(i).tolist(),
            int(sentences.words[i]),
            int(sentences.lines[i]),
        )
        for i in np.flatnonzero(lengths <= limit).tolist()
    ]
    counts = asdict(sentences.counts)
    counts["too_many_tokens"] += len(sentences) - len(rows)
    return build_sentences(rows, ReadCounts(**{**counts, "kept": len(rows)}))


def _natural(paths: object) -> list[Path]:
    """Sorted so that shard 10 follows shard 9."""
    return sorted(
        paths,  # type: ignore[call-overload]
        key=lambda path: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", path.name)],
    )
