"""Batches of triplets: an endless shuffled stream with an exact position, and single samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..simulator.geometry import NUM_VIEWS, angle_features
from .features import DeviceFeatures
from .masking import mask_words
from .tokenizers import WordCodes
from .triplets import TripletTable

LENGTH_STEP = 8  # texts are cut to a multiple of this, which suits the GPU's kernels


class TripletBatch(NamedTuple):
    tokens: Tensor  # (B, T) int64, some words masked; T covers the longest text of the batch
    mask: Tensor  # (B, T) int64, 1 = word, 0 = padding
    labels: Tensor  # (B, T) int64, the word at masked positions, -1 elsewhere
    positions: Tensor  # (M,) int64, flat places of the labels
    word_positions: Tensor  # (N,) int64, flat places of all words
    word_count: float  # labels of the global batch per process: what the word loss is divided by
    images: Tensor | None  # (B, 36, D)
    actions: Tensor  # (B,) int64


class TripletBatches:
    """Endless batches of one process.

    The time steps stream past in a new random order every epoch, each once; a batch may reach into
    the next epoch. Order and masks depend on ``seed`` and the position in the stream alone, so the
    position is all that resuming needs, and the ranks share one global batch.

    Args:
        table: the triplets.
        codes: what masking must know of the vocabulary.
        batch_size: B, triplets of this process.
        features: view features (block layout); None leaves the images out.
        feature_rows: row of each ``scan_viewpoint`` in ``features`` (``FeatureStore.rows``).
        device: where batches go.
        seed: of order and masks.
        rank, world_size: this process and its peers.
    """

    def __init__(
        self,
        table: TripletTable,
        codes: WordCodes,
        batch_size: int,
        *,
        features: DeviceFeatures | None = None,
        feature_rows: Mapping[str, int] | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if int(table.tokens.max()) >= codes.vocab_size:
            raise ValueError(
                f"the triplets hold word piece {int(table.tokens.max())}, but the vocabulary has "
                f"{codes.vocab_size}; they were made with another vocabulary"
            )
        self.table, self.codes, self.batch_size = table, codes, batch_size
        self.features, self.device, self.seed = features, torch.device(device), seed
        self.rank, self.world_size = rank, world_size
        self.position = 0  # time steps of the stream that all ranks together have seen
        self._owner = table.owner
        self._tokens = torch.from_numpy(table.tokens)
        self._rows = None if feature_rows is None else table.rows(feature_rows)
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    @property
    def batches_per_epoch(self) -> float:
        """Batches of one pass over the triplets (a fraction, as the stream does not pause)."""
        return len(self.table) / (self.batch_size * self.world_size)

    def __iter__(self) -> TripletBatches:
        return self

    def __next__(self) -> TripletBatch:
        total = self.batch_size * self.world_size
        index = self._take(self.position, total)
        generator = torch.Generator().manual_seed(_seed(self.seed, 1, self.position))
        self.position += total
        # The masks of all ranks are drawn, so that the number of masked words is known here and
        # several processes see what one would.
        tokens = self._tokens[torch.from_numpy(self._owner[index])].long()  # (B * world, L)
        masked = mask_words(tokens, self.codes, generator=generator)
        part = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        return self._collate(
            index[part],
            tokens[part],
            masked.tokens[part],
            masked.labels[part],
            float((masked.labels >= 0).sum()) / self.world_size,
        )

    def _collate(
        self,
        index: NDArray[np.int64],
        tokens: Tensor,
        masked: Tensor,
        labels: Tensor,
        word_count: float,
    ) -> TripletBatch:
        longest = int((tokens != 0).sum(dim=1).max())
        length = min(-(-longest // LENGTH_STEP) * LENGTH_STEP, tokens.shape[1])
        labels = labels[:, :length].contiguous()
        mask = (tokens[:, :length] != 0).long()
        actions = torch.from_numpy(self.table.action[index].astype(np.int64))
        images = None
        if self.features is not None and self._rows is not None:
            rows = self._rows[self.table.place[index]]
            images = self.features.panorama(rows, self.table.view[index].astype(np.int64))
        return TripletBatch(
            self._move(masked[:, :length]),
            self._move(mask),
            self._move(labels),
            self._move((labels.flatten() >= 0).nonzero().squeeze(1)),
            self._move(mask.flatten().nonzero().squeeze(1)),
            word_count,
            images,
            self._move(actions),
        )

    def _move(self, tensor: Tensor) -> Tensor:
        if self.device.type != "cuda":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _take(self, start: int, count: int) -> NDArray[np.int64]:
        """Time steps ``start`` to ``start + count`` of the stream."""
        parts = []
        while count:
            epoch, offset = divmod(start, len(self.table))
            if epoch != self._epoch:
                generator = np.random.default_rng([self.seed, epoch])
                self._epoch, self._order = epoch, generator.permutation(len(self.table))
            part = self._order[offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = int(state["position"])


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def make_sample(
    table: TripletTable,
    index: int,
    features: DeviceFeatures,
    feature_rows: Mapping[str, int],
    codes: WordCodes,
    *,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Time step ``index`` as the authors' dataset gives it, the unused parts included.

    The keys: ``masked_text_seq``, ``masked_text_label``, ``lang_attention_mask`` (L,);
    ``feature_all`` (36, D), ``teacher``, ``teacher_embedding`` (D,); the same three with ``next_``
    for the following step (the last step repeats itself); ``isnext`` and ``next_img`` (36, D): with
    even odds the next panorama (1), or the next viewpoint seen from another view (0).
    """
    trajectory = int(np.searchsorted(table.first, index, side="right")) - 1
    following = min(index + 1, int(table.first[trajectory + 1]) - 1)
    rows = table.rows(feature_rows)
    tokens = torch.from_numpy(table.tokens[trajectory]).long()
    masked = mask_words(tokens, codes, generator=generator)
    is_next = int(torch.randint(2, (), generator=generator))
    other = int(torch.randint(NUM_VIEWS - 1, (), generator=generator))
    next_view = int(table.view[following])
    other = next_view if is_next else other + (other >= next_view)

    def panorama(step: int, view: int) -> Tensor:
        return features.panorama(rows[table.place[[step]]], np.array([view]))[0]

    return {
        "masked_text_seq": masked.tokens,
        "masked_text_label": masked.labels,
        "lang_attention_mask": (tokens != 0).long(),
        "feature_all": panorama(index, int(table.view[index])),
        "teacher": torch.tensor(int(table.action[index])),
        "teacher_embedding": _action_embedding(table, index, features, rows),
        "next_feature_all": panorama(following, next_view),
        "next_teacher": torch.tensor(int(table.action[following])),
        "next_teacher_embedding": _action_embedding(table, following, features, rows),
        "isnext": torch.tensor(is_next),
        "next_img": panorama(following, other),
    }


def _action_embedding(
    table: TripletTable, step: int, features: DeviceFeatures, rows: NDArray[np.int64]
) -> Tensor:
    """(D,) features of the chosen view and its direction; zeros for a stop."""
    view = int(table.target_view[step])
    image = features.single(rows[table.place[[step]]], np.array([max(view, 0)]))[0]
    angles = torch.from_numpy(
        angle_features(
            table.rel_heading[step], table.rel_elevation[step], features.angle_size, "block"
        )
    ).to(image)
    return torch.cat([image, angles]) * float(view >= 0)
