"""The smoke presets on a toy world that is already there."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from prevalent.runtime.command import Stopped
from prevalent.runtime.signals import StopSignal
from prevalent.tasks.graph import PRESETS as GRAPH_PRESETS, GraphRun
from prevalent.tasks.hanna import HANNA_PRESETS, HannaRun
from prevalent.tasks.ndh import NDH_PRESETS, NDHRun
from prevalent.tasks.options import AgentRun
from prevalent.tasks.r2r import R2R_PRESETS, R2RRun, train_r2r
from prevalent.tasks.speaker import SPEAKER_PRESETS, SpeakerRun

Run = TypeVar("Run", bound=AgentRun)
PIECES = {"wordpieces": Path("wordpiece.txt")}


def follower_run(world: Path, run_dir: Path, **changes) -> R2RRun:
    return on_toy_world(R2R_PRESETS["smoke"][1], world, run_dir, **PIECES | changes)


def graph_run(world: Path, run_dir: Path, **changes) -> GraphRun:
    return on_toy_world(GRAPH_PRESETS["smoke"][1], world, run_dir, **PIECES | changes)


def speaker_run(world: Path, run_dir: Path, **changes) -> SpeakerRun:
    return on_toy_world(SPEAKER_PRESETS["smoke"][1], world, run_dir, **changes)


def ndh_run(world: Path, run_dir: Path, **changes) -> NDHRun:
    return on_toy_world(NDH_PRESETS["ndh-smoke"][1], world, run_dir, **PIECES | changes)


def hanna_run(world: Path, run_dir: Path, **changes) -> HannaRun:
    return on_toy_world(HANNA_PRESETS["hanna-smoke"][1], world, run_dir, **PIECES | changes)


def on_toy_world(preset: Run, world: Path, run_dir: Path, **changes: Any) -> Run:
    options: dict[str, Any] = {"world": "matterport", "data_dir": world, "device": "cpu"}
    options |= {"features": Path("features.npy"), "run_dir": run_dir}
    return replace(preset, **options | changes)


def run_in_halves(train, config, stop_at: int):
    """Train until a signal asks to stop at a step, then run the same command again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopSignal, "requested", lambda self, step, every=10: step == stop_at)
        with pytest.raises(Stopped, match=f"after step {stop_at}"):
            train(config)
    return train(config)


def assert_same_modules(ours, theirs, tolerance=0.0):
    for name, module in ours.items():
        for key, value in module.state_dict().items():
            other = theirs[name].state_dict()[key]
            torch.testing.assert_close(
                value, other, rtol=tolerance, atol=tolerance, msg=f"{name}.{key}"
            )


def make_demo_folder(folder: Path, world: Path) -> Path:
    """Two runs of followers, as ``prevalent demo`` leaves them."""
    for seed in range(2):
        run = folder / f"agent-{seed}"
        train_r2r(follower_run(world, run, seed=seed, max_steps=1, held_out=()))
        (run / "snapshots/last").rename(run / "snapshots/best_val_unseen")
    return folder


def train_in_two_processes(words: list[str]) -> None:
    """Run ``prevalent WORDS`` in two processes that share out the batches."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "prevalent", *words],
            env={**os.environ, **address, "RANK": str(rank), "WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` by its name there."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
