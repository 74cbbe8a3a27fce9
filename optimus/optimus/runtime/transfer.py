"""From the host to the device: uploads that wait for nothing, batches made ahead by a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

Item = TypeVar("Item")
Given = TypeVar("Given", covariant=True)


class Endless(Protocol[Given]):
    """Batches without end, whose position is part of a checkpoint."""

    def __next__(self) -> Given: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def upload(
    values: np.ndarray | Tensor, device: torch.device | str, dtype: torch.dtype | None = None
) -> Tensor:
    """``values`` of the host on ``device``; neither of the two waits for the other."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    return tensor.to(device, dtype, non_blocking=True)


def pinned(batch: Any) -> Any:
    """``batch``, a named tuple, with its tensors in memory that the device reads by itself."""
    return type(batch)(*map(_pinned, batch))


def _pinned(part: Any) -> Any:
    on_the_host = isinstance(part, Tensor) and part.device.type == "cpu"
    return part.pin_memory() if on_the_host else part


def uploaded(batch: Any, device: torch.device | str) -> Any:
    """``batch``, a named tuple, with its tensors on ``device``."""
    return type(batch)(
        *(upload(part, device) if isinstance(part, Tensor) else part for part in batch)
    )


class Prepared(Generic[Item]):
    """The batches of ``source``, each made into what a step needs; the position is its own.

    Args:
        source: batches on the CPU.
        prepare: makes a named tuple of one.
    """

    def __init__(self, source: Endless[Any], prepare: Callable[[Any], Item]) -> None:
        self.source, self.prepare = source, prepare

    def __next__(self) -> Item:
        return self.prepare(next(self.source))

    def state_dict(self) -> dict[str, Any]:
        return self.source.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.source.load_state_dict(state)


class ReadAhead(Generic[Item]):
    """The batches of ``source`` on a device, the next ones made and pinned by a thread meanwhile.

    Order and position are those of ``source``: a checkpoint holds the position behind the batch
    that was handed out last, whatever was made ahead. On a CPU there is no thread.

    Args:
        source: named tuples of tensors on the CPU, which it draws from its position alone.
        device: where they go.
        depth: batches that are made ahead.
        threaded: whether there is a thread; by default on a CUDA device only.
    """

    def __init__(
        self,
        source: Endless[Item],
        device: torch.device | str,
        *,
        depth: int = 2,
        threaded: bool | None = None,
    ) -> None:
        self.source, self.device, self.depth = source, torch.device(device), depth
        self._threaded = self.device.type == "cuda" if threaded is None else threaded
        self._state: dict[str, Any] | None = None  # behind the batch handed out last
        self._ready: queue.Queue[Any] = queue.Queue(depth)
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def __iter__(self) -> ReadAhead[Item]:
        return self

    def __next__(self) -> Item:
        if not self._threaded:
            return uploaded(next(self.source), self.device)  # type: ignore[no-any-return]
        if self._thread is None:
            self._state = self.source.state_dict()
            self._thread = threading.Thread(target=self._make, name="batches", daemon=True)
            self._thread.start()
        made = self._ready.get()
        if isinstance(made, BaseException):
            self.close()
            raise made
        batch, self._state = made
        return uploaded(batch, self.device)  # type: ignore[no-any-return]

    def state_dict(self) -> dict[str, Any]:
        """That of the source, behind the batch that was handed out last."""
        return self.source.state_dict() if self._state is None else dict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the batch that was handed out last before saving."""
        self.close()
        self.source.load_state_dict(state)
        self._state = None

    def close(self) -> None:
        """Stop the thread, and put the source back to where the batches handed out end."""
        if self._thread is None:
            return
        self._ending.set()
        while self._thread.is_alive():  # it may wait for room
            try:
                self._ready.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)
        self._thread, self._ready = None, queue.Queue(self.depth)
        self._ending.clear()
        if self._state is not None:
            self.source.load_state_dict(self._state)
        self._state = None

    def _make(self) -> None:
        on_cuda = self.device.type == "cuda"
        try:
            while not self._ending.is_set():
                batch = next(self.source)
                self._put((pinned(batch) if on_cuda else batch, self.source.state_dict()))
        except BaseException as error:  # whoever asks for the next batch is told
            self._put(error)

    def _put(self, made: Any) -> None:
        while not self._ending.is_set():
            with suppress(queue.Full):
                self._ready.put(made, timeout=0.1)
                return
