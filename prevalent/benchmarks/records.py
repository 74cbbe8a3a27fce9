"""What the benchmarks share: scans to run on, floors, and the records of ``benchmarks/results``."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from prevalent.data.toy import write_toy
from prevalent.runtime.files import json_text
from prevalent.runtime.measuring import product_speed


def default_connectivity() -> Path:
    """The real scans where they are at hand, else toy houses."""
    real = Path(os.environ.get("PREVALENT_DATA", "data")) / "connectivity"
    if real.is_dir():
        return real
    folder = Path(tempfile.gettempdir()) / "prevalent-benchmark-world"
    if not (folder / "features.npy").is_file():
        write_toy(folder)
    print(f"{real} does not exist: toy houses instead of the 90 scans")
    return folder / "connectivity"


def headline(
    what: str, plain: float | None, ours: float, unit: str, ratio: float, **more: float
) -> dict[str, Any]:
    """A row of the table of all benchmarks.

    Args:
        what: the benchmark and its case.
        plain, ours: both ways in ``unit``; ``plain`` is None where only a bound is known.
        unit: of the two.
        ratio: how many times better ours is.
        more: ``target`` (least ratio), ``floor`` (in ``unit``), ``memory_ratio``.
    """
    absent = {"target": None, "floor": None, "memory_ratio": None}
    row = {"what": what, "plain": plain, "ours": ours, "unit": unit, "ratio": ratio}
    return {**row, **absent, **more}


def write_record(path: Path | None, title: str, rows: list[dict[str, Any]], **content: Any) -> None:
    """Write ``rows`` and ``content`` to ``path``, ``benchmarks/results/TITLE.json`` when None."""
    path = path or Path(__file__).parent / "results" / f"{title}.json"
    path.parent.mkdir(exist_ok=True)
    record = {"title": title, "headline": rows, **content, "torch": torch.__version__}
    path.write_text(json_text(record, indent=2) + "\n")


def floor_seconds(run: Callable[[], Any], device: str = "cpu") -> float:
    """Seconds of ``run`` if it did nothing but its matrix products, at the best speed of one."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / product_speed(device)


def memory_of(way: str) -> float:
    """Peak resident memory in MB of this script run anew with ``--only WAY``."""
    words = [sys.executable, str(Path(sys.argv[0]).resolve()), *sys.argv[1:], "--only", way]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])
