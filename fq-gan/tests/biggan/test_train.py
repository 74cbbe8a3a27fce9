"""Training runs: resuming, stopping, scoring, best weights, and mistakes of the user."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import tiny_run

from fqgan.biggan.train import drop_rows_from, train
from fqgan.runtime.checkpoint import Checkpoint
from fqgan.runtime.logs import read_metrics


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
    with pytest.raises(FileNotFoundError, match=r"absent.pth is missing.*--scoring.features"):
        train(run)
    assert not (tmp_path / "run").exists()


def test_rows_of_singular_values_behind_the_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "spectra.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "G')
    drop_rows_from(path, 3)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]
