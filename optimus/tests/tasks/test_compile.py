"""``--compile`` changes no number beyond rounding, no name, and nothing that is written."""

from dataclasses import replace

import pytest
import torch

from optimus.data.toy import write_toy
from optimus.loop import train
from optimus.runtime import compilation
from optimus.runtime.checkpoint import read_part
from optimus.tasks.language_model import PRESETS, TASK

ROUNDING = 1e-4  # of a compiled step; AdamW divides small gradients by their own size


@pytest.fixture
def smoke(tmp_path):
    write_toy(tmp_path / "toy")
    (tmp_path / "toy" / "valid.txt").unlink()  # an evaluation would be compiled for itself
    preset = PRESETS["smoke"][1]
    data = replace(preset.data, folder=tmp_path / "toy")
    model = replace(preset.model, dropout=0.0, layers=1)
    return replace(preset, data=data, model=model, max_steps=1, device="cpu", precision="fp32")


def test_a_compiled_run_is_the_plain_one_and_goes_on_without_a_compiler(
    tmp_path, monkeypatch, smoke
):
    monkeypatch.setattr(compilation, "BACKEND", "eager")
    states = []
    for compiled in (False, True):
        config = replace(smoke, run_dir=tmp_path / str(compiled), compile=compiled)
        train(TASK, config)
        states.append(read_part(config.run_dir, "model")[0])
    assert states[0].keys() == states[1].keys()
    for name, plain in states[0].items():
        torch.testing.assert_close(states[1][name], plain, rtol=ROUNDING, atol=ROUNDING)
    went_on = train(TASK, replace(config, compile=False, max_steps=2))
    assert went_on.progress.step == 2


def test_compiling_and_recomputing_exclude_each_other(smoke):
    with pytest.raises(ValueError, match=r"--compile and .* exclude each other"):
        replace(smoke, compile=True, model=replace(smoke.model, checkpointing=True))
