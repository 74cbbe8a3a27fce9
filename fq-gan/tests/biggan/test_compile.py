"""``--compile`` changes no number beyond rounding and no name; StyleGAN2 does not offer it."""

from dataclasses import replace

import pytest
import torch

from fqgan import runs
from fqgan.biggan.config import PRESETS
from fqgan.runtime import compilation
from fqgan.runtime.checkpoint import read_part
from fqgan.stylegan2.config import PRESETS as STYLEGAN2
from fqgan.ugatit.config import PRESETS as UGATIT

ROUNDING = 1e-3  # of two compiled iterations; Adam divides small gradients by their own size


def test_a_compiled_run_is_the_plain_one_and_goes_on_without_a_compiler(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "BACKEND", "eager")
    states = []
    for compiled in (False, True):
        run_dir = str(tmp_path / str(compiled))
        config = replace(PRESETS["smoke"][1], run_dir=run_dir, compile=compiled, device="cpu")
        config = replace(config, max_steps=2, evaluate_every=0, sample_every=0, precision="fp32")
        runs.train(config)
        states.append(
            {name: read_part(run_dir, name)[0] for name in ("generator", "discriminator")}
        )
    for name, plain in states[0].items():
        assert plain.keys() == states[1][name].keys()
        for key, value in plain.items():
            torch.testing.assert_close(states[1][name][key], value, rtol=ROUNDING, atol=ROUNDING)
    assert runs.train(replace(config, compile=False, max_steps=3)).progress.step == 3


def test_translators_are_compiled_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "BACKEND", "eager")
    states = []
    for compiled in (False, True):
        run_dir = str(tmp_path / str(compiled))
        config = replace(UGATIT["ugatit-smoke"][1], run_dir=run_dir, compile=compiled, device="cpu")
        # Without FQ: where two codes are equally near, rounding decides which one is counted.
        config = replace(config, quantizer=replace(config.quantizer, layers=()))
        config = replace(config, max_steps=2, evaluate_every=0, sample_every=0, precision="fp32")
        training = runs.train(config)
        assert {one._compiled_call_impl is not None for one in training.regions} == {compiled}
        states.append(read_part(run_dir, "networks")[0])
    plain, compiled = states
    assert plain.keys() == compiled.keys()
    for key, value in plain.items():
        torch.testing.assert_close(compiled[key], value, rtol=ROUNDING, atol=ROUNDING)
    assert runs.train(replace(config, compile=False, max_steps=3)).progress.step == 3


def test_another_family_is_refused_before_anything_is_written(tmp_path):
    config = replace(STYLEGAN2["stylegan2-smoke"][1], run_dir=str(tmp_path / "run"), compile=True)
    with pytest.raises(ValueError, match="--compile is not offered for runs of kind stylegan2"):
        runs.train(config)
    assert not (tmp_path / "run" / "config.json").exists()
