"""Training runs: resuming, two processes, precision, scores, sheets, mistakes of the user."""

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import free_ports
from ugatit_runs import tiny_ugatit, ugatit_weights_of

from fqgan.runtime.logs import read_metrics
from fqgan.ugatit.config import StepConfig, share_step
from fqgan.ugatit.train import some_images, train


def differing(one, two):
    first, second = ugatit_weights_of(one), ugatit_weights_of(two)
    assert first
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


@pytest.mark.parametrize("separate", [False, True])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, separate):
    """It is cut in mid-epoch, with images augmented, between two moves of the generators."""
    run = tiny_ugatit(tmp_path / "whole", max_steps=5, save_every=3)
    run = replace(run, step=replace(run.step, generator_every=2, separate_batches=separate))
    train(run)
    halves = replace(run, run_dir=str(tmp_path / "halves"))
    train(replace(halves, max_steps=3))
    train(halves)
    assert differing(tmp_path / "whole", tmp_path / "halves") == []
    metrics = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "halves")]
    assert metrics[0] == metrics[1]
    parts = [
        torch.load(tmp_path / name / "checkpoints/00000005" / f"{part}.pt", weights_only=True)
        for part in ("step", "data")
        for name in ("whole", "halves")
    ]
    for whole, half in zip(parts[::2], parts[1::2], strict=True):
        torch.testing.assert_close(whole, half, rtol=0, atol=0)


def test_scores_before_and_after_and_sheets_of_both_directions_are_written(tmp_path):
    train(tiny_ugatit(tmp_path, max_steps=3, evaluate_every=2, sample_every=2))
    rows = read_metrics(tmp_path)
    scored = [row["step"] for row in rows if "kid_x100/filled2inked" in row]
    assert scored == [0, 2, 3]
    assert "kid_x100/inked2filled" in rows[0]
    last = {name: value for row in rows[-2:] for name, value in row.items()}
    for name in ("loss_discriminator", "loss_cycle", "loss_cam", "l2_generator", "learning_rate"):
        assert name in last
    assert "judge_a.layer1/codebook_perplexity" in last
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        f"{way}_{step:06d}.png" for way in ("filled2inked", "inked2filled") for step in (2, 3)
    ]


def test_fine_tuning_starts_from_other_weights_and_names_those_of_another_width(tmp_path):
    train(tiny_ugatit(tmp_path / "first", max_steps=1))
    weights = str(tmp_path / "first/model")
    run = tiny_ugatit(tmp_path / "second", max_steps=1, initial_weights=weights, seed=5)
    train(replace(run, step=replace(run.step, lr=1e-12)))
    first, second = (
        load_file(tmp_path / name / "model/a_to_b.safetensors")["first.weight"]
        for name in ("first", "second")
    )
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)
    wider = replace(run, generator=replace(run.generator, channels=4), run_dir=str(tmp_path / "b"))
    with pytest.raises(ValueError, match=r"--initial-weights.*belongs to another network"):
        train(wider)


def test_test_images_that_are_missing_are_named_before_the_first_step(tmp_path):
    run = tiny_ugatit(tmp_path / "run", sample_every=1)
    (tmp_path / "data" / "trainA").mkdir(parents=True)
    run = replace(run, data=replace(run.data, source="folders", path=str(tmp_path / "data")))
    with pytest.raises(FileNotFoundError, match="has no folder trainB"):
        train(run)
    assert not (tmp_path / "run").exists()


def whole_and_halves(rank, folder, ports):
    """One of two processes: a whole run, and one that is started a second time."""
    torch.set_num_threads(1)
    group = {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
    os.environ.update(group)
    whole = tiny_ugatit(folder / "whole", max_steps=4, save_every=2)
    whole = replace(whole, step=replace(whole.step, batch_size=2))
    halves = replace(whole, run_dir=str(folder / "halves"))
    for port, run in zip(ports, (whole, replace(halves, max_steps=2), halves), strict=True):
        os.environ["MASTER_PORT"] = port  # a group of processes each
        train(run)


def test_two_processes_resume_to_the_bit_and_see_other_images_than_one(tmp_path):
    context = multiprocessing.get_context("fork")
    ports = free_ports(3)
    workers = [
        context.Process(target=whole_and_halves, args=(rank, tmp_path, ports)) for rank in (0, 1)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
        worker.kill()
    assert [worker.exitcode for worker in workers] == [0, 0]
    with pytest.raises(ValueError, match=r"--step\.batch-size 1 must be a multiple of the 2 proc"):
        share_step(StepConfig(), 2)
    assert differing(tmp_path / "whole", tmp_path / "halves") == []
    train(tiny_ugatit(tmp_path / "alone", max_steps=4))
    assert differing(tmp_path / "whole", tmp_path / "alone")
    assert read_metrics(tmp_path / "whole")[-1]["images"] == 8
    assert read_metrics(tmp_path / "alone")[-1]["images"] == 4


def test_shown_images_are_spread_over_the_names(tmp_path):
    from fqgan.data.unpaired import UnpairedConfig, build_domains

    images = build_domains(UnpairedConfig("toy", resolution=16), "test").a
    assert some_images(images, 3).shape == (3, 3, 16, 16)
    assert len(some_images(images, 1000)) == len(images)


def test_real_images_are_trained_on(tmp_path):
    path = Path(os.environ.get("FQGAN_DATA", "none")) / "images" / "selfie2anime"
    if not path.is_dir():
        pytest.skip("FQGAN_DATA/images/selfie2anime is not there")
    run = tiny_ugatit(tmp_path, max_steps=2, sample_every=2)
    run = replace(
        run, data=replace(run.data, source="folders", path=str(path), limit=4, in_memory=False)
    )
    train(run)
    assert read_metrics(tmp_path)[-1]["loss_cycle"] > 0
