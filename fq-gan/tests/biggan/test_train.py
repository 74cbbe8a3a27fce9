"""Training runs: resuming, stopping, scoring, best weights, and mistakes of the user."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import tiny_run, weights_of

from fqgan.biggan import step as step_module
from fqgan.biggan.train import drop_rows_from, train
from fqgan.runtime.checkpoint import Checkpoint
from fqgan.runtime.command import Stopped
from fqgan.runtime.logs import read_metrics
from fqgan.runtime.signals import StopSignal


def same(one, two):
    first, second = weights_of(one), weights_of(two)
    assert first
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    options = {"max_steps": 5, "save_every": 3}
    train(tiny_run(tmp_path / "whole", **options))
    train(tiny_run(tmp_path / "halves", **{**options, "max_steps": 3}))
    train(tiny_run(tmp_path / "halves", **options))
    assert same(tmp_path / "whole", tmp_path / "halves") == []
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "halves")]
    assert metrics[0] == metrics[1]
    parts = [
        torch.load(
            tmp_path / name / "checkpoints/00000005" / f"{part}.pt",
            weights_only=True,
        )
        for part in ("generator_optimizer", "discriminator_optimizer", "latents", "data")
        for name in ("whole", "halves")
    ]
    for whole, halves in zip(parts[::2], parts[1::2], strict=True):
        torch.testing.assert_close(whole, halves, rtol=0, atol=0)


def test_a_stop_signal_saves_leaves_and_continues(tmp_path, monkeypatch):
    train(tiny_run(tmp_path / "whole", max_steps=4, save_every=100))
    with monkeypatch.context() as patch:
        patch.setattr(StopSignal, "requested", lambda self, step: step == 3)
        with pytest.raises(Stopped, match="after step 3"):
            train(tiny_run(tmp_path / "stopped", max_steps=4, save_every=100))
    assert Checkpoint(tmp_path / "stopped").steps() == [3]
    train(tiny_run(tmp_path / "stopped", max_steps=4, save_every=100))
    assert same(tmp_path / "whole", tmp_path / "stopped") == []


def test_a_loss_that_is_not_a_number_stops_before_anything_is_saved(tmp_path, monkeypatch):
    run = tiny_run(tmp_path, max_steps=4, save_every=1, log_every=1)
    whole = step_module.GanStep.__call__

    def spoiled(self, images, labels, step):
        losses = whole(self, images, labels, step)
        return losses._replace(real=losses.real * float("nan")) if step == 3 else losses

    monkeypatch.setattr(step_module.GanStep, "__call__", spoiled)
    with pytest.raises(FloatingPointError, match=r"real is not finite at step 3.*run the same"):
        train(run)
    assert Checkpoint(tmp_path).steps() == [1, 2]
    assert json.loads((tmp_path / "model/config.json").read_text())["step"] == 2


def test_scores_sheets_spectra_and_best_weights_are_written(tmp_path):
    run = tiny_run(
        tmp_path,
        max_steps=4,
        save_every=2,
        evaluate_every=1,
        sample_every=2,
        spectra_every=2,
        keep=1,
        keep_best=2,
    )
    train(run)
    fids = [row["fid"] for row in read_metrics(tmp_path) if "fid" in row]
    assert len(fids) == 4
    improved = sum(fid < min(fids[:i], default=float("inf")) for i, fid in enumerate(fids))
    assert len(list(tmp_path.glob("best*"))) == min(2, improved)
    best = max(json.loads(path.read_text())["step"] for path in tmp_path.glob("best*/config.json"))
    assert fids[best - 1] == min(fids)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        "fixed_000002.png",
        "fixed_000004.png",
    ]
    spectra = [json.loads(line) for line in (tmp_path / "spectra.jsonl").read_text().splitlines()]
    assert [row["step"] for row in spectra] == [2, 4]
    assert spectra[0]["G_blocks_0_0_conv1_sv0"] > 0
    assert Checkpoint(tmp_path).steps() == [4]
    counts = json.loads((tmp_path / "parameters.json").read_text())
    assert counts["generator"] > 0


def test_without_the_quantizer_no_dictionary_is_made(tmp_path):
    run = tiny_run(tmp_path, max_steps=1)
    train(replace(run, quantizer=replace(run.quantizer, layers=())))
    names = load_file(tmp_path / "model/discriminator.safetensors")
    assert not any("embed_avg" in name for name in names)
    assert read_metrics(tmp_path)[0]["loss_real_quantization"] == 0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_in_mixed_precision_stays_finite_and_its_dictionary_in_fp32(tmp_path, precision):
    train(tiny_run(tmp_path, max_steps=3, precision=precision))
    state = load_file(tmp_path / "model/discriminator.safetensors")
    dictionaries = [value for name, value in state.items() if name.endswith("1.embed")]
    assert dictionaries
    assert all(value.dtype == torch.float32 for value in dictionaries)
    assert all(value.isfinite().all() for value in dictionaries)


def test_fine_tuning_starts_from_other_weights(tmp_path):
    train(tiny_run(tmp_path / "first", max_steps=1))
    run = tiny_run(
        tmp_path / "second", max_steps=1, initial_weights=str(tmp_path / "first/model"), seed=5
    )
    run = replace(run, step=replace(run.step, generator_lr=1e-12, ema_start=10))
    train(run)
    first, second = (
        load_file(tmp_path / name / "model/raw.safetensors")["linear.weight"]
        for name in ("first", "second")
    )
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)


def test_apex_that_is_not_installed_is_said_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="use --precision bf16 or fp16"):
        train(tiny_run(tmp_path, precision="apex-O1"))


def test_a_score_that_the_features_do_not_have_is_refused(tmp_path):
    run = tiny_run(tmp_path, max_steps=1, evaluate_every=1, best_metric="inception_score")
    with pytest.raises(ValueError, match=r"--best-metric inception_score.*fid"):
        train(run)


def test_inception_weights_that_are_missing_are_named_before_the_first_step(tmp_path):
    run = tiny_run(tmp_path / "run", evaluate_every=1)
    run = replace(
        run,
        scoring=replace(
            run.scoring, features="inception-torch", weights=str(tmp_path / "absent.pth")
        ),
    )
    with pytest.raises(FileNotFoundError, match=r"absent.pth is missing.*--features random"):
        train(run)
    assert not (tmp_path / "run").exists()


def test_rows_of_singular_values_behind_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "spectra.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "G')
    drop_rows_from(path, 3)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]
