"""The host waits for the device nowhere in a step, but where this file names it."""

from dataclasses import replace

import pytest
import torch

from optimus.data.toy import write_toy
from optimus.runtime.counting import count
from optimus.runtime.distributed import World
from optimus.runtime.run_folder import RunFolder
from optimus.tasks.language_model import PRESETS, TASK

ON_THE_HOST = (
    "language_model.py:__next__",  # batches, which are made on the CPU
    "text.py",
    "precision.py:step",  # AdamW counts its steps there
)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_waits_for_nothing(tmp_path, precision):
    write_toy(tmp_path / "toy")
    preset = PRESETS["smoke"][1]
    data = replace(preset.data, folder=tmp_path / "toy")
    run_dir = tmp_path / "run"
    config = replace(preset, run_dir=run_dir, data=data, precision=precision, device="cpu")
    with RunFolder(run_dir, TASK.kind, config) as folder:
        run = TASK.open(config, World(0, 1, torch.device("cpu")), folder)
        run.step()
        found = count(run.step, on_the_host=ON_THE_HOST)
    assert not found.waits
    assert sum(found.kernels.values()) < 800
