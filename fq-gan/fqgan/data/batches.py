"""Endless training batches: order, reading ahead, augmentation; uint8 until on the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..metrics.networks import resize_like_tf1
from ..runtime import distributed
from .images import ArrayImages, Images, UnreadableImagesError, decode_all, normalize


class Batch(NamedTuple):
    images: Tensor  # (B, 3, R, R), float32 in [-1, 1], on the device
    labels: Tensor  # (B,), int64, on the device


class _Raw(NamedTuple):
    pixels: Tensor  # (B, 3, R, R), uint8 or float levels
    labels: Tensor  # (B,)
    draws: _Draws | None


class _Draws(NamedTuple):
    flip: Tensor  # (B,) bool
    crop: Tensor  # (B,) in [0, 1]
    shift: Tensor | None  # (B, 2) pixels, 0 .. 2 * pad or 0 .. enlarge
    enlarged: Tensor | None  # (B,) bool


class Batches:
    """Endless iterator of `Batch`; its position is part of a checkpoint.

    Augmentation is drawn from the position in the stream: it does not depend on the number of
    ranks, on read-ahead, or on where the run was resumed.

    Args:
        images: what to read.
        batch_size: B, of one ``next`` on one rank. Call ``next`` once for every accumulation, so
            that ranks and accumulations are interchangeable.
        seed: of the order and of the augmentation.
        device: where batches go.
        augment: mirror half of the images, and cut the square anywhere on the long edge.
        pad: with ``augment``, shift images by up to this many pixels (CIFAR: 4).
        enlarge: with ``augment``, one image in two stays as it is; the others are mirrored or not,
            enlarged by this many pixels and cut back to R at a random place (U-GAT-IT).
        shuffle: see `EpochSampler`.
        prefetch: batches read ahead; 0 reads in the calling thread.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        augment: bool = False,
        pad: int = 0,
        enlarge: int = 0,
        shuffle: bool = True,
        prefetch: int = 2,
    ) -> None:
        self.images, self.device = images, torch.device(device)
        self.augment, self.pad, self.enlarge = augment, pad, enlarge
        self.sampler = EpochSampler(
            len(images),
            batch_size,
            seed=seed,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            shuffle=shuffle,
        )
        # A gather from memory is cheaper than a hand-over between threads.
        self._prefetch = 0 if isinstance(images, ArrayImages) else prefetch
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: deque[tuple[int, Future[_Raw]]] = deque()
        self._position = 0

    @property
    def images_seen(self) -> int:
        """Images handed out so far, all ranks together."""
        return self._position

    @property
    def epoch(self) -> int:
        """Complete passes over the images so far."""
        return self._position // self.sampler.length

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._prefetch == 0:
            raw = self._read(next(self.sampler), self.sampler.position)
            self._position = self.sampler.position
            return self._finish(raw)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        while len(self._ahead) <= self._prefetch:
            index = next(self.sampler)
            position = self.sampler.position
            self._ahead.append((position, self._pool.submit(self._read, index, position)))
        position, future = self._ahead.popleft()
        raw = future.result()
        self._position = position
        return self._finish(raw)

    def state_dict(self) -> dict[str, Any]:
        return {**self.sampler.state_dict(), "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the batch that followed the one last handed out before saving."""
        self.close()
        self.sampler.load_state_dict(state)
        self._position = self.sampler.position

    def resize(self, batch_size: int) -> None:
        """Go on with batches of another size, behind what was handed out so far."""
        self.close()
        self.sampler.batch_size = batch_size

    def close(self) -> None:
        """Forget what was read ahead and stop the thread."""
        for _, future in self._ahead:
            future.cancel()
        self._ahead.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        self.sampler.position = self._position

    def _read(self, index: Tensor, position: int) -> _Raw:
        draws = self._draws(len(index), position) if self.augment else None
        pixels = self.images.read(index, draws.crop if draws else None)
        labels = self.images.labels[index]
        if self.device.type == "cuda" and pixels.device.type == "cpu":
            pixels, labels = pixels.pin_memory(), labels.pin_memory()
        return _Raw(pixels, labels, draws)

    def _draws(self, count: int, position: int) -> _Draws:
        sampler = self.sampler
        first = position + (sampler.rank - sampler.world_size) * sampler.batch_size
        # The mask keeps the seed of the generator positive; the factor separates run seeds.
        generator = torch.Generator().manual_seed(
            (sampler.seed * 0x9E3779B97F4A7C15 + first + 1) & (2**63 - 1)
        )
        flip = torch.rand(count, generator=generator) < 0.5
        crop = torch.rand(count, generator=generator)
        shift = enlarged = None
        if room := self.enlarge or 2 * self.pad:
            shift = torch.randint(0, room + 1, (count, 2), generator=generator)
        if self.enlarge:
            enlarged = torch.rand(count, generator=generator) < 0.5
            flip = flip & enlarged
        return _Draws(flip, crop, shift, enlarged)

    def _finish(self, raw: _Raw) -> Batch:
        pixels = raw.pixels.to(self.device, non_blocking=True)
        if raw.draws is not None:
            pixels = self._augmented(pixels, raw.draws)
        return Batch(normalize(pixels), raw.labels.to(self.device, non_blocking=True))

    def _augmented(self, pixels: Tensor, draws: _Draws) -> Tensor:
        chosen = draws.flip.to(self.device, non_blocking=True)[:, None, None, None]
        pixels = torch.where(chosen, pixels.flip(3), pixels)
        if draws.shift is None:
            return pixels
        shift, size = draws.shift.to(self.device, non_blocking=True), pixels.shape[-1]
        if draws.enlarged is None:
            return windows(F.pad(pixels, [self.pad] * 4), shift, size)
        larger = resize_like_tf1(pixels.float(), size + self.enlarge, size + self.enlarge)
        enlarged = draws.enlarged.to(self.device, non_blocking=True)[:, None, None, None]
        return torch.where(enlarged, windows(larger, shift, size), pixels.float())


def windows(pixels: Tensor, shift: Tensor, size: int) -> Tensor:
    """The square of ``size`` pixels of each image (B, 3, H, W) whose corner is ``shift`` (B, 2)."""
    steps = torch.arange(size, device=pixels.device)
    rows = (shift[:, :1] + steps)[:, None, :, None]
    columns = (shift[:, 1:] + steps)[:, None, None, :]
    batch = torch.arange(len(pixels), device=pixels.device)[:, None, None, None]
    channel = torch.arange(pixels.shape[1], device=pixels.device)[None, :, None, None]
    return pixels[batch, channel, rows, columns]


def one_pass(
    images: Images, batch_size: int, *, device: torch.device | str = "cpu", limit: int = 0
) -> Iterator[Batch]:
    """One pass in order over this rank's share of `fixed_choice` of the images (0: all)."""
    order = fixed_choice(len(images), limit)
    for index in order[distributed.rank() :: distributed.world_size()].split(batch_size):
        try:
            pixels = images.read(index).to(device)
        except UnreadableImagesError:
            decode_all(images)  # names all of them
            raise
        yield Batch(normalize(pixels), images.labels[index].to(device))


def fixed_choice(total: int, limit: int) -> Tensor:
    """A fixed random choice of ``limit`` out of ``total`` places, ascending; 0 takes all.

    The first ones would not do: many data sets are sorted by class.
    """
    if limit == 0 or limit >= total:
        return torch.arange(total)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
    return order[:limit].sort().values


def next_images(batches: Batches, count: int) -> tuple[Tensor, Tensor]:
    """The next ``count`` batches as one: images (count * B, 3, R, R) and labels.

    Batches are asked for one by one, so that ranks and accumulations are interchangeable.
    """
    drawn = [next(batches) for _ in range(count)]
    return torch.cat([batch.images for batch in drawn]), torch.cat([b.labels for b in drawn])


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
