"""What holds for the training runs of all families: resuming, stopping, precision, mistakes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tiny_runs import tiny_run, tiny_stylegan2, weights_of
from ugatit_runs import tiny_ugatit

from fqgan.biggan.step import GanStep
from fqgan.runs import train
from fqgan.runtime.checkpoint import Checkpoint
from fqgan.runtime.command import Stopped
from fqgan.runtime.logs import read_metrics
from fqgan.runtime.signals import StopSignal
from fqgan.stylegan2.step import GanStep as Stylegan2Step
from fqgan.ugatit.step import UgatitStep


def iterations(run: Any, steps: int, save_every: int) -> Any:
    return replace(run, max_steps=steps, save_every=save_every, log_every=1)


def images(run: Any, steps: int, save_every: int) -> Any:
    schedule = replace(run.schedule, total_kimg=steps * 0.004)
    return replace(run, schedule=schedule, save_kimg=save_every * 0.004, log_kimg=0.004)


class Family(NamedTuple):
    tiny: Callable[..., Any]
    until: Callable[[Any, int, int], Any]  # a run with so many iterations and a save every so many
    step: type
    loss: str  # one of its losses
    unit: int = 1  # progress of one iteration


FAMILIES = {
    "biggan": Family(tiny_run, iterations, GanStep, "real"),
    "ugatit": Family(tiny_ugatit, iterations, UgatitStep, "cycle"),
    "stylegan2": Family(tiny_stylegan2, images, Stylegan2Step, "real", 4),
}


@pytest.fixture(params=FAMILIES)
def family(request) -> Family:
    return FAMILIES[request.param]


def assert_same(one: Path, other: Path) -> None:
    """Weights, metrics and every part of the newest checkpoint are the same to the bit."""
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys() != set()
    assert [name for name, value in first.items() if not torch.equal(value, second[name])] == []
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    folders = [run / "checkpoints" / f"{Checkpoint(run).steps()[-1]:08d}" for run in (one, other)]
    for path in folders[0].glob("*.pt"):
        if path.stem != "random":
            whole, halves = (
                torch.load(folder / path.name, weights_only=True) for folder in folders
            )
            torch.testing.assert_close(whole, halves, rtol=0, atol=0)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, family):
    for name, ends in (("whole", (5,)), ("halves", (3, 5))):
        for end in ends:
            train(family.until(family.tiny(tmp_path / name), end, 3))
    assert_same(tmp_path / "whole", tmp_path / "halves")


def test_a_stop_signal_saves_leaves_and_continues(tmp_path, family, monkeypatch):
    train(family.until(family.tiny(tmp_path / "whole"), 4, 100))
    stopped = family.until(family.tiny(tmp_path / "stopped"), 4, 100)
    with monkeypatch.context() as patch:
        patch.setattr(StopSignal, "requested", lambda self, step: step == 3)
        with pytest.raises(Stopped, match=f"after step {3 * family.unit}"):
            train(stopped)
    assert Checkpoint(stopped.folder).steps() == [3 * family.unit]
    train(stopped)
    assert_same(tmp_path / "whole", tmp_path / "stopped")


def test_a_loss_that_is_not_a_number_stops_before_anything_is_saved(tmp_path, family, monkeypatch):
    whole = family.step.__call__

    def spoiled(self, first, second, step, **options):
        losses = whole(self, first, second, step, **options)
        value = getattr(losses, family.loss)
        return losses._replace(**{family.loss: value * float("nan")}) if step == 3 else losses

    monkeypatch.setattr(family.step, "__call__", spoiled)
    said = rf"{family.loss} is not finite at step {3 * family.unit}.*run the same"
    with pytest.raises(FloatingPointError, match=said):
        train(family.until(family.tiny(tmp_path), 4, 1))
    assert Checkpoint(tmp_path).steps() == [family.unit, 2 * family.unit]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_in_mixed_precision_stays_finite_and_its_dictionary_in_fp32(
    tmp_path, family, precision
):
    train(family.until(family.tiny(tmp_path, precision=precision, channels_last=True), 2, 2))
    state = weights_of(tmp_path)
    dictionaries = [value for name, value in state.items() if name.endswith(".embed")]
    assert dictionaries
    assert all(value.dtype == torch.float32 for value in dictionaries)
    assert all(value.isfinite().all() for value in state.values())


def test_apex_that_is_not_installed_is_said_in_one_sentence(tmp_path, family):
    with pytest.raises(ValueError, match="use --precision bf16 or fp16"):
        train(family.tiny(tmp_path / "run", precision="apex-O1"))
    assert not (tmp_path / "run").exists()


def test_without_the_quantizer_no_dictionary_is_made(tmp_path, family):
    run = family.until(family.tiny(tmp_path), 1, 1)
    train(replace(run, quantizer=replace(run.quantizer, layers=())))
    assert not any("embed_avg" in name for name in weights_of(tmp_path))
    losses = read_metrics(tmp_path)[-1]
    assert [losses[name] for name in losses if name.endswith("quantization")] == pytest.approx(
        [0.0] * sum(name.endswith("quantization") for name in losses)
    )


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_on_a_gpu_resumes(tmp_path, family, precision):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    run = family.tiny(tmp_path, device="cuda", precision=precision, channels_last=True)
    for end in (1, 4):
        train(family.until(run, end, 1))
    assert read_metrics(tmp_path)[-1]["step"] == 4 * family.unit


def test_gradients_are_cleared_without_the_optimizers_own_way(tmp_path, family, monkeypatch):
    """apex's FusedAdam, and every optimizer that apex has patched, takes no argument there."""

    def strict(self):
        raise AssertionError("the steps clear gradients themselves")

    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", strict)
    train(family.until(family.tiny(tmp_path), 1, 1))
