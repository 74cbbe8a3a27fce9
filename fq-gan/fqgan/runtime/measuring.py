"""Seconds, memory and the speed of matrix products: what benchmarks are made of."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

SIZES = {"cpu": 1024, "cuda": 8192}  # of a product that keeps the device busy


def seconds_of(work: Callable[[], Any], device: str = "cpu") -> float:
    """CPU seconds of ``work``; on a CUDA device those between two events of its stream."""
    if device == "cpu":
        began = time.process_time()
        work()
        return time.process_time() - began
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    first.record()
    work()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1000


def unit_of(device: str) -> str:
    """What `seconds_of` counts."""
    return "CPU s" if device == "cpu" else "s"


def peak_memory(device: str = "cpu") -> float:
    """Most memory of this process so far, in MB of 2^20 bytes: resident, or that of a CUDA device.

    0 where the system does not tell; Linux does. ``ru_maxrss`` is no measure: a process inherits it
    from the one that started it.
    """
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
        return int(found[1]) / 1024 if found else 0.0
    return 0.0


def product_speed(device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations a second of a large matrix product, the best of ten."""
    size = SIZES["cpu" if device == "cpu" else "cuda"]
    a = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / min(seconds_of(lambda: a @ a, device) for _ in range(10))
