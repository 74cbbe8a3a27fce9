"""What a step of every loop asks of a device: kernels, casts, memory, and waits of the host.

    python benchmarks/counts.py [--precision bf16]

Counted on a CPU at the size of the smoke presets (see `prevalent.runtime.counting`): the numbers of
operations and allocations are the same at any size, the MB are not. Optimizers take all tensors at
once, as on a GPU. An LSTM counts step by step here; on a GPU it is a few kernels.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from prevalent.loop import Task
from prevalent.optimizer import OPTIMIZERS
from prevalent.runtime.counting import COLUMNS, Counts, count
from prevalent.runtime.distributed import World
from prevalent.runtime.run_folder import RunFolder
from prevalent.tasks.graph import PRESETS as GRAPH_PRESETS, TASK as GRAPH
from prevalent.tasks.hanna import HANNA_PRESETS, TASK as HANNA
from prevalent.tasks.ndh import NDH_PRESETS, TASK as NDH
from prevalent.tasks.pretraining import PRETRAIN_PRESETS, TASK as PRETRAINING
from prevalent.tasks.r2r import R2R_PRESETS, TASK as R2R
from prevalent.tasks.speaker import SPEAKER_PRESETS, TASK as SPEAKER

ON_THE_HOST = (
    *("encoders.py:cut", "encoders.py:packing", "kernels.py:of", "triplets.py"),
    *("optimizer.py:step", "precision.py:step"),
)


def loops() -> Iterator[tuple[str, Task, Any]]:
    yield "pre-training", PRETRAINING, PRETRAIN_PRESETS["smoke"][1]
    yield "R2R", R2R, R2R_PRESETS["smoke"][1]
    yield "speaker", SPEAKER, SPEAKER_PRESETS["smoke"][1]
    yield "NDH", NDH, NDH_PRESETS["ndh-smoke"][1]
    yield "HANNA", HANNA, HANNA_PRESETS["hanna-smoke"][1]
    yield "map", GRAPH, GRAPH_PRESETS["smoke"][1]


def counts(task: Task, config: Any) -> Counts:
    """Of the second step of a run."""
    run_dir = Path(tempfile.mkdtemp()) / "run"
    config = replace(config, run_dir=type(config.run_dir)(run_dir), device="cpu", held_out=())
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
    for name, kind in OPTIMIZERS.items():
        way = {"fused": True} if name == "adam" else {"foreach": True}
        OPTIMIZERS[name] = partial(kind, **way)  # type: ignore[assignment]
    print(f"{'loop':<16}{COLUMNS}  waits of the host ({precision})")
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)  # presets write below the present folder
        for name, task, preset in loops():
            with contextlib.redirect_stderr(None):
                found = counts(task, replace(preset, precision=precision))
            waits = ", ".join(f"{where} {number}" for where, number in found.waits.items())
            print(f"{name:<16}{found.columns()}  {waits or 'none'}", flush=True)


if __name__ == "__main__":
    main()
