"""Padded batches of sentences of similar length: endless and resumable to train, whole to score."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .sentences import Sentences, build_sentences
from .tokenizers import Tokenizers

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

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from which a GPU copies without waiting."""
        return Batch(*(tensor.pin_memory() for tensor in self))


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
                f"{int(sizes.sum())} in {len(sizes)} file(s): choose a batch size between 1 and "
                f"{int(sizes.max(initial=0))}"
            )
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
        """The position and a digest of what it refers to."""
        return {"position": self.position, "fingerprint": self._fingerprint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at a saved position; the number of processes may differ, the rest may not."""
        if state["fingerprint"] != self._fingerprint():
            raise ValueError(
                "the checkpoint was written with another corpus, batch size, order or seed; "
                "use the same ones or another --run-dir"
            )
        self.position = int(state["position"])

    def _fingerprint(self) -> str:
        sizes = [[len(s), int(s.encoder_offsets[-1]), s.digest] for s in self.shards]
        content = [sizes, self.global_batch, self.order, self.bucket, self.seed]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

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
