"""An endless order of images whose position can be saved and shared among ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class EpochSampler:
    """Indices of the stream "permutation of epoch 0, permutation of epoch 1, ...", batch by batch.

    All permutations come from one generator, one after the other: the order is the one of the
    authors' multi-epoch sampler under the same seed, except that it never ends. Call ``j`` of rank
    ``r`` takes batch ``j * world_size + r`` of the stream, so that two ranks see what one process
    sees that accumulates two batches. A batch may cross the border of two epochs.

    Args:
        length: N, the number of images.
        batch_size: B, of one call on one rank.
        seed: of the permutations.
        rank: of this process.
        world_size: number of processes.
        shuffle: False gives 0, 1, ..., N-1 in every epoch.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
    ) -> None:
        if length < 1 or batch_size < 1:
            raise ValueError(f"{length} images cannot be split into batches of {batch_size}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is outside a world of {world_size}")
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.world_size, self.shuffle = rank, world_size, shuffle
        self.position = 0
        self._generator = torch.Generator()
        self._restart()

    @property
    def epoch(self) -> int:
        """Complete passes over the images so far, all ranks together."""
        return self.position // self.length

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        first = self.position + self.rank * self.batch_size
        batch = self.slice(first, first + self.batch_size)
        self.position += self.batch_size * self.world_size
        return batch

    def slice(self, first: int, last: int) -> Tensor:
        """Entries ``first`` to ``last - 1`` of the stream."""
        parts = []
        while first < last:
            epoch, start = divmod(first, self.length)
            stop = min(self.length, start + last - first)
            parts.append(self._permutation(epoch)[start:stop])
            first += stop - start
        return torch.cat(parts)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position, "seed": self.seed, "length": self.length}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position; batch size and number of ranks may have changed since."""
        if state["length"] != self.length:
            raise ValueError(
                f"the checkpoint was trained on {state['length']} images and there are "
                f"{self.length} now; give the same data set or start a new run"
            )
        self.position, self.seed = int(state["position"]), int(state["seed"])
        self._restart()

    def _restart(self) -> None:
        self._generator.manual_seed(self.seed)
        self._drawn: dict[int, Tensor] = {}
        self._next_epoch = 0

    def _permutation(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.length)
        if epoch not in self._drawn and epoch < self._next_epoch:
            self._restart()  # a step back, past what is kept
        while self._next_epoch <= epoch:
            self._drawn[self._next_epoch] = torch.randperm(self.length, generator=self._generator)
            self._drawn.pop(self._next_epoch - 2, None)  # two epochs can be in use at a border
            self._next_epoch += 1
        return self._drawn[epoch]
