"""One process or many: start under torchrun, reductions (no-ops in one process), wrapping."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .precision import set_numerics
from .random_state import seed_all

_left_groups: list[Any] = []  # they live as long as the process


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def choose_device(device: str) -> torch.device:
    """``auto`` takes CUDA where there is one; raises ``ValueError`` where the choice is missing."""
    device = str(device)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    known = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", device)
    if known is None:
        raise ValueError(f"--device {device}: choose one of auto, cpu, cuda, cuda:N")
    if device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"--device {device} needs a CUDA device and PyTorch sees none; use cpu")
    if known[1] and int(known[1]) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise ValueError(f"--device {device}: the devices here are cuda:0 to cuda:{last}")
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    return torch.device(device)


@contextmanager
def start(device: str = "auto", *, seed: int = 0, deterministic: bool = False) -> Iterator[World]:
    """Join the group that torchrun describes (gloo or nccl), seed, and leave at the end.

    Each rank is seeded with ``seed + rank``. ``DISTRIBUTED_TIMEOUT`` (seconds, default 600) bounds
    how long a rank waits for a peer that died.
    """
    chosen = choose_device(device)
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size > 1:
        timeout = timedelta(seconds=float(os.environ.get("DISTRIBUTED_TIMEOUT", "600")))
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=timeout)
    seed_all(seed + rank)
    set_numerics(deterministic=deterministic)
    try:
        yield World(rank, size, chosen)
    except BaseException:
        _leave(wait=False)
        raise
    _leave(wait=True)


def _leave(*, wait: bool) -> None:
    """Leave the group; where this process fails, without waiting for what its peers still send."""
    if not dist.is_initialized():
        return
    # Freed while one of its threads drops a tensor, gloo's group could wait for ever.
    _left_groups.append(dist.group.WORLD)
    if not wait and dist.get_backend() == "nccl":
        dist.distributed_c10d._abort_process_group()
    elif wait:
        dist.destroy_process_group()
    _let_threads_finish()


def _let_threads_finish(patience: float = 2.0) -> None:
    """Wait until the other threads of this process sleep, at most ``patience`` seconds.

    One of gloo's threads that still drops a tensor of the last operation needs the interpreter's
    lock; when Python has begun to end it gets none, and the whole process is aborted.
    """
    until, quiet = time.monotonic() + patience, 0
    while quiet < 3 and time.monotonic() < until:
        time.sleep(0.005)  # leaves the lock to them
        quiet = 0 if _other_threads_run() else quiet + 1


def _other_threads_run() -> bool:
    """Whether a thread beside the main one is on a processor or waits for one (Linux; else no)."""
    for thread in Path("/proc/self/task").glob("*/stat"):
        with suppress(OSError):  # it may have ended meanwhile
            state = thread.read_text().rpartition(")")[2].split()[0]
            if state == "R" and thread.parent.name != str(os.getpid()):
                return True
    return False


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    return rank() == 0


def barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


def reduce_sum(value: Tensor) -> Tensor:
    """Sum of ``value`` over the ranks, in place; returns it."""
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


def reduce_mean(value: Tensor) -> Tensor:
    """Mean of ``value`` over the ranks, in place; returns it."""
    return reduce_sum(value).div_(world_size())


def gather_objects(value: Any) -> list[Any]:
    """``value`` of every rank, in rank order (plain Python objects of our own processes)."""
    gathered: list[Any] = [value] * world_size()
    if dist.is_initialized():
        dist.all_gather_object(gathered, value)
    return gathered


def wrap(model: nn.Module, world: World, **options: Any) -> nn.Module:
    """``model`` under DistributedDataParallel where there are peers; else ``model`` itself."""
    if world.size == 1:
        return model
    devices = [world.device] if world.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, **options)


def unwrap(model: Any) -> Any:
    return model.module if isinstance(model, DistributedDataParallel) else model
