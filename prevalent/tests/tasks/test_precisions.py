"""Every training command in half precision on a CPU, and what loss scaling must not end."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prevalent.runtime.distributed import World
from prevalent.runtime.logs import read_metrics
from prevalent.runtime.run_folder import RunFolder
from prevalent.tasks.hanna import train_hanna
from prevalent.tasks.ndh import TASK as NDH, train_ndh
from prevalent.tasks.pretraining import PRETRAIN_PRESETS, pretrain
from prevalent.tasks.r2r import train_r2r
from prevalent.tasks.speaker import train_speaker
from tests.toy_runs import follower_run, hanna_run, ndh_run, on_toy_world, speaker_run


def pretraining_run(world, run_dir, **changes):
    words = {"vocabulary": Path("wordpiece.txt"), "eval_every": 2, **changes}
    return on_toy_world(PRETRAIN_PRESETS["smoke"][1], world, run_dir, **words)


def every_request(world, run_dir, **changes):
    config = hanna_run(world, run_dir, **changes)
    return replace(config, rollout=replace(config.rollout, ask="every"))


RUNS = {
    "pretrain": (pretrain, pretraining_run, {}),
    "train-r2r": (train_r2r, follower_run, {}),
    # a critic, a module that asks: without gradients here, which a GradScaler does not like
    "train-r2r, teacher": (train_r2r, follower_run, {"feedback": "teacher"}),
    "train-r2r, student": (train_r2r, follower_run, {"feedback": "student"}),
    "train-speaker": (train_speaker, speaker_run, {}),
    "train-ndh": (train_ndh, ndh_run, {}),
    "train-hanna": (train_hanna, hanna_run, {}),
    "train-hanna, every": (train_hanna, every_request, {}),
}


@pytest.mark.parametrize("precision", ["fp16", pytest.param("bf16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_in_half_precision_trains_scores_and_continues(toy_world, tmp_path, name, precision):
    train, make, changes = RUNS[name]
    config = make(toy_world, tmp_path, precision=precision, max_steps=2, **changes)
    train(config)
    train(replace(config, max_steps=3, precision="auto"))  # goes on as it began
    rows = [row for row in read_metrics(tmp_path) if "loss" in row]
    assert rows[-1]["step"] == 3
    assert torch.isfinite(torch.tensor([row["loss"] for row in rows])).all()


@pytest.mark.parametrize(("precision", "ends"), [("fp16", False), ("fp32", True)])
def test_gradients_that_overflow_end_a_run_only_where_nothing_scales_the_loss(
    toy_world, tmp_path, monkeypatch, precision, ends
):
    config = ndh_run(toy_world, tmp_path / "run", precision=precision, held_out=())
    with RunFolder(config.run_dir, NDH.kind, config) as folder:
        run = NDH.open(config, World(0, 1, torch.device("cpu")), folder)
        found = {"loss": torch.tensor(1.0), "encoder_norm": torch.tensor(float("inf"))}
        found |= {name: torch.tensor(1.0) for name in run.losses if name not in found}
        monkeypatch.setattr(run, "learn", lambda: found)
        run.step()
        if ends:
            with pytest.raises(FloatingPointError, match="encoder_norm is not finite"):
                run.check()
        else:
            run.check()
