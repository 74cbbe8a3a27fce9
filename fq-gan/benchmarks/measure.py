"""Fresh processes, alternating variants, medians: what the benchmarks share."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def timed(function: Callable[[], Any], repeats: int) -> dict[str, list[float]]:
    """Seconds of wall and of CPU time for each of ``repeats`` calls."""
    wall, cpu = [], []
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        function()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return {"wall": wall, "cpu": cpu}


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_fresh_process(script: str, *words: str) -> dict[str, Any]:
    """Run ``script`` with ``--worker words`` and read the JSON it prints."""
    command = [sys.executable, script, "--worker", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
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
    path.write_text(json.dumps(report, indent=2) + "\n")
