"""Fresh processes, alternating variants, medians: what the benchmarks share."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from fqgan.runtime.files import json_text
from fqgan.runtime.measuring import peak_memory, product_speed

RESULTS = Path(__file__).parent / "results"


def timed(function: Callable[[], Any], repeats: int) -> dict[str, list[float]]:
    """Seconds of wall and of CPU time for each of ``repeats`` calls.

    Where a CUDA device is in use, it is waited for, and wall time stands for both.
    """
    wall, cpu, on_cuda = [], [], torch.cuda.is_initialized()
    for _ in range(repeats):
        if on_cuda:
            torch.cuda.synchronize()
        start, start_cpu = time.perf_counter(), time.process_time()
        function()
        if on_cuda:
            torch.cuda.synchronize()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return {"wall": wall, "cpu": wall if on_cuda else cpu}


def peak_mb() -> float:
    """Largest memory of this process so far, in MB; see `peak_memory`."""
    return peak_memory("cuda" if torch.cuda.is_initialized() else "cpu")


def in_fresh_process(script: str, *words: str) -> dict[str, Any]:
    """Run ``script`` with ``--worker words`` and read the JSON it prints; its errors are shown."""
    command = [sys.executable, script, "--worker", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def summarize(samples: Sequence[float]) -> dict[str, float]:
    """Median, smallest, and the spread between the quartiles."""
    ordered = sorted(samples)
    quarter = len(ordered) // 4
    return {
        "median": statistics.median(ordered),
        "min": ordered[0],
        "spread": ordered[-1 - quarter] - ordered[quarter],
        "runs": len(ordered),
    }


def write_report(path: Path, report: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json_text(report, indent=2) + "\n")


class _CountProducts(TorchDispatchMode):
    """torch's own counter hooks modules too, which forbids differentiating leaves inside them."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def flops_of(function: Callable[[], Any]) -> int:
    """Operations of the matrix products and convolutions of one call."""
    with _CountProducts() as counter:
        function()
    return counter.total


def best_speed() -> float:
    """Operations per CPU second of a large fp32 matrix product or convolution, the best of ten.

    On some CPUs convolutions are a fifth faster than products, so that neither alone is a floor.
    """
    a, images = torch.randn(1024, 1024), torch.randn(32, 128, 16, 16)
    images = images.contiguous(memory_format=torch.channels_last)
    filters = torch.randn(128, 128, 3, 3).contiguous(memory_format=torch.channels_last)
    speeds = []
    for work in (lambda: a @ a, lambda: F.conv2d(images, filters, padding=1)):
        work()
        speeds.append(flops_of(work) / min(timed(work, 10)["cpu"]))
    return max(speeds)


def speed_of(device: str, precision: str = "fp32") -> float:
    """Operations per second of large products on ``device``: what the floor is reckoned with."""
    if device == "cpu":
        return best_speed()
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    return product_speed(device, dtype)


def headline(
    what: str,
    plain: float | None,
    ours: float,
    *,
    target: float | None = None,
    flops: int = 0,
    memory: tuple[float, float] | None = None,
    unit: str = "CPU s",
    device: str = "cpu",
) -> dict[str, Any]:
    """A row of the table of all benchmarks.

    Args:
        what: was measured.
        plain: the plain way's number; None where there is none.
        ours: ours; a difference may be too small to be measured, which makes the ratio None.
        target: of plain / ours.
        flops: operations that ours cannot do without; the floor is their time at the best speed.
        memory: peak of the plain way and of ours.
        unit: of ``plain`` and ``ours``.
        device: whose best speed the floor is reckoned with.
    """
    return {
        "what": what,
        "plain": plain,
        "ours": ours,
        "unit": unit,
        "ratio": None if plain is None or ours <= 0 else plain / ours,
        "target": target,
        "floor": flops / speed_of(device) if flops else None,
        "memory_ratio": memory[1] / memory[0] if memory else None,
    }
