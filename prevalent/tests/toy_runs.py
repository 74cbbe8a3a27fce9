"""The smoke presets on a toy world that is already there."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from prevalent.runtime.command import Stopped
from prevalent.runtime.distributed import World
from prevalent.runtime.rundir import open_run
from prevalent.runtime.signals import StopSignal
from prevalent.tasks.hanna import HANNA_PRESETS, HannaRun
from prevalent.tasks.navigation import AgentRun, open_world, settle
from prevalent.tasks.ndh import NDH_PRESETS, NDHRun
from prevalent.tasks.r2r import (
    R2R_PRESETS,
    R2RRun,
    build_follower,
    find_vocabulary,
    open_tokenizer,
    save_follower,
)
from prevalent.tasks.speaker import SPEAKER_PRESETS, SpeakerRun

Run = TypeVar("Run", bound=AgentRun)
PIECES = {"wordpieces": Path("wordpiece.txt")}


def follower_run(world: Path, run_dir: Path, **changes) -> R2RRun:
    return on_toy_world(R2R_PRESETS["smoke"][1], world, run_dir, **PIECES | changes)


def speaker_run(world: Path, run_dir: Path, **changes) -> SpeakerRun:
    return on_toy_world(SPEAKER_PRESETS["smoke"][1], world, run_dir, **changes)


def dialog_run(world: Path, run_dir: Path, **changes) -> NDHRun:
    return on_toy_world(NDH_PRESETS["ndh-smoke"][1], world, run_dir, **PIECES | changes)


def search_run(world: Path, run_dir: Path, **changes) -> HannaRun:
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
    """Two runs of followers with random weights, as ``prevalent demo`` leaves them."""
    for seed in range(2):
        config = follower_run(world, folder / f"agent-{seed}", seed=seed)
        config = settle(config, config.run_dir, World(0, 1, torch.device("cpu")))
        with open_run(config.run_dir, config):
            opened = open_world(config, ["val_unseen"], torch.device("cpu"))
            vocabulary = find_vocabulary(config)
            tokenizer = open_tokenizer(config.model, vocabulary, config.max_length)
            follower = build_follower(config, opened, tokenizer)
            place = config.run_dir / "snapshots" / "best_val_unseen"
            save_follower(place, follower, vocabulary, config.max_length)
    return folder
