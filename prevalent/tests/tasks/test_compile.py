"""``--compile`` changes no number beyond rounding and no name; agents do not offer it."""

from dataclasses import replace

import pytest
import torch

from prevalent.loop import train
from prevalent.runtime import compilation
from prevalent.runtime.checkpoint import read_part
from prevalent.tasks.pretraining import PRETRAIN_PRESETS, TASK
from prevalent.tasks.speaker import SPEAKER_PRESETS, TASK as SPEAKER

ROUNDING = 1e-4  # of a compiled step; AdamW divides small gradients by their own size


def test_a_compiled_run_is_the_plain_one_and_goes_on_without_a_compiler(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "BACKEND", "eager")
    preset = PRETRAIN_PRESETS["smoke"][1]
    model = replace(preset.model, dropout=0.0, attention_dropout=0.0)
    states = []
    for compiled in (False, True):
        config = replace(preset, run_dir=tmp_path / str(compiled), compile=compiled, model=model)
        config = replace(config, device="cpu", max_steps=1, precision="fp32", held_out=())
        train(TASK, config)
        states.append(read_part(config.run_dir, "model")[0])
    assert states[0].keys() == states[1].keys()
    for name, plain in states[0].items():
        torch.testing.assert_close(states[1][name], plain, rtol=ROUNDING, atol=ROUNDING)
    assert train(TASK, replace(config, compile=False, max_steps=2)).progress.step == 2


def test_an_agent_is_refused_before_anything_is_written(tmp_path):
    preset = SPEAKER_PRESETS["smoke"][1]
    config = replace(preset, run_dir=tmp_path / "run", compile=True, device="cpu")
    with pytest.raises(ValueError, match="--compile is not offered for runs of kind speaker"):
        train(SPEAKER, config)
    assert not (tmp_path / "run" / "config.json").exists()
