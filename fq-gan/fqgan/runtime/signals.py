"""A clean stop: a signal becomes a request to save and leave."""

from __future__ import annotations

import signal
import types

import torch

from .command import Stopped
from .distributed import reduce_sum, world_size


class StopSignal:
    """Turns SIGTERM, SIGUSR1 (SLURM) and SIGINT into a request to save and stop.

    A context manager. A second SIGINT interrupts at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> StopSignal:
        numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
        self._before = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: types.FrameType | None) -> None:
        if self.received == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.received = number

    def requested(self, step: int, every: int = 10) -> bool:
        """Whether any rank was asked to stop; ranks compare notes only every ``every`` steps."""
        if world_size() == 1:
            return self.received is not None
        if step % every:
            return False
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        flag = torch.tensor(float(self.received is not None), device=device)
        return bool(reduce_sum(flag).item())

    def leave(self, step: int) -> None:
        """Raise `Stopped`, to be called after the checkpoint of ``step`` is written."""
        raise Stopped(f"stopped by a signal after step {step}; run the same command to continue")
