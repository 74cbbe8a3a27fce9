"""What a step of every loop asks of a device: kernels, casts, and where the host would wait.

    python benchmarks/counts.py [--precision bf16]

Counted on a CPU at the size of the smoke presets (see `optimus.runtime.counting`), so they are
numbers of operations whatever their size. An LSTM counts step by step here; on a GPU it is
a few kernels.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from optimus.data.toy import write_toy
from optimus.loop import Task
from optimus.runtime.counting import Counts, count
from optimus.runtime.distributed import World
from optimus.runtime.run_folder import RunFolder
from optimus.tasks.language_model import PRESETS, TASK

ON_THE_HOST = (
    *("training.py:of", "text.py", "labeled.py", "dialog.py:contexts_of"),  # batches of the CPU
    "precision.py:step",  # AdamW counts its steps there
)


def loops() -> Iterator[tuple[str, Task, Any]]:
    write_toy("data/toy")
    yield "language model", TASK, PRESETS["smoke"][1]


def counts(task: Task, config: Any) -> Counts:
    """Of the second step of a run."""
    run_dir = Path(tempfile.mkdtemp()) / "run"
    config = replace(config, run_dir=type(config.run_dir)(run_dir), device="cpu")
    with RunFolder(run_dir, task.kind, config) as folder:
        torch.manual_seed(0)
        run = task.open(config, World(0, 1, torch.device("cpu")), folder)
        run.step()
        torch.manual_seed(0)
        return count(run.step, on_the_host=ON_THE_HOST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16", "fp16"))
    precision = parser.parse_args().precision
    torch.set_num_threads(1)
    print(f"{'loop':<16}{'kernels':>9}{'casts':>7}  waits of the host ({precision})")
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # presets write below the present folder
        for name, task, preset in loops():
            with contextlib.redirect_stderr(None):
                found = counts(task, replace(preset, precision=precision))
            waits = ", ".join(f"{where} {number}" for where, number in found.waits.items())
            kernels = sum(found.kernels.values())
            print(f"{name:<16}{kernels:>9}{found.casts:>7}  {waits or 'none'}", flush=True)


if __name__ == "__main__":
    main()
