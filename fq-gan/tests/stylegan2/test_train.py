"""Training runs of StyleGAN2: resuming, growing, labels, files, mistakes of the user."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_runs import finish, free_ports, start, tiny_stylegan2, weights_of

from fqgan.runs import save_weights
from fqgan.runtime.checkpoint import Checkpoint
from fqgan.runtime.command import Stopped
from fqgan.runtime.logs import read_metrics
from fqgan.runtime.signals import StopSignal
from fqgan.stylegan2.config import Phase, QuantizerConfig, ScheduleConfig
from fqgan.stylegan2.legacy import build_discriminator, build_generator
from fqgan.stylegan2.sampling import load_weights, start_from
from fqgan.stylegan2.train import Stylegan2Training, images_of, train

GROWING = ScheduleConfig(
    total_kimg=0.032,
    growing=True,
    training_kimg=0.008,
    transition_kimg=0.016,
    batch_size=4,
    batch_size_at=((8, 8),),
    device_batch_size=4,
    device_batch_size_at=((8, 8),),
)


def growing_run(run_dir, architecture, **changes):
    run = tiny_stylegan2(run_dir, **changes)
    return replace(
        run,
        data=replace(run.data, resolution=16),
        generator=replace(run.generator, architecture=architecture),
        discriminator=replace(run.discriminator, architecture=architecture),
        quantizer=QuantizerConfig(layers=()),
        schedule=GROWING,
    )


def same(one, two):
    first, second = weights_of(one), weights_of(two)
    assert first
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


def total(run, kimg):
    return replace(run, schedule=replace(run.schedule, total_kimg=kimg))


@pytest.mark.parametrize("architecture", ["growing", "stylegan1"])
def test_a_run_that_grows_resumes_within_a_transition(tmp_path, architecture):
    options = {"save_kimg": 0.012, "log_kimg": 0.004}
    train(growing_run(tmp_path / "whole", architecture, **options))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopSignal, "requested", lambda self, step: step == 3)
        with pytest.raises(Stopped, match="after step 20"):
            train(growing_run(tmp_path / "stopped", architecture, **options))
    assert load_weights(tmp_path / "stopped/model").lod == 0.5
    train(growing_run(tmp_path / "stopped", architecture, **options))
    assert same(tmp_path / "whole", tmp_path / "stopped") == []
    lods = [row["lod"] for row in read_metrics(tmp_path / "whole")]
    assert lods == [1.0, 1.0, 0.5, 0.25, 0.0, 0.0]
    sizes = [row["batch_size"] for row in read_metrics(tmp_path / "whole")]
    assert sizes[0] == 8
    assert sizes[-1] == 4


def test_networks_that_still_grow_are_drawn_and_scored(tmp_path):
    options = {"evaluate_kimg": 0.016, "sample_kimg": 0.008}
    train(growing_run(tmp_path, "growing", **options))
    assert sum("fid" in row for row in read_metrics(tmp_path)) == 2
    with Image.open(tmp_path / "samples/fixed_00000008.png") as sheet:
        blocks = np.asarray(sheet)[2:18, 2:18].reshape(8, 2, 8, 2, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()  # half of the resolution, enlarged


def test_the_optimizers_start_anew_where_growing_starts_or_ends():
    class Recorder:
        resets = 0

        def set_phase(self, **_):
            pass

        def reset_optimizers(self):
            self.resets += 1

    class Data:
        sampler = type("Sampler", (), {"batch_size": 4})

    run = SimpleNamespace(gan_step=Recorder(), batches=Data, processes=1)
    run.progress = SimpleNamespace(iteration=0, lod=0.0)
    for iteration, lod in enumerate([2.0, 2.0, 1.9, 1.2, 1.0, 1.0, 0.7, 0.0]):
        run.progress.iteration = iteration
        Stylegan2Training.enter(run, Phase(0.0, lod, 8, 4, 4, 0.002, 1.0))
        assert run.progress.lod == lod
    assert run.gan_step.resets == 4


TWO_PROCESSES = """
import os, sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, sys.argv[1])
from fqgan.stylegan2.train import train
from tiny_runs import tiny_stylegan2

for port, name, kimg in zip(sys.argv[3:], ("halves", "halves", "whole"), (0.008, 0.016, 0.016)):
    os.environ["MASTER_PORT"] = port
    run = tiny_stylegan2(Path(sys.argv[2]) / name, save_kimg=0.008)
    train(replace(run, schedule=replace(run.schedule, total_kimg=kimg, batch_size=8)))
"""


def test_two_processes_share_the_batch_and_resume_with_the_same_bits(tmp_path):
    words = [sys.executable, "-c", TWO_PROCESSES, str(Path(__file__).parents[1]), str(tmp_path)]
    words += free_ports(3)
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    for process in [start(words, RANK=str(rank), **group) for rank in (0, 1)]:
        finish(process)
    assert same(tmp_path / "halves", tmp_path / "whole") == []
    assert [row["batch_size"] for row in read_metrics(tmp_path / "whole")] == [8, 8]


def test_classes_reach_both_networks(tmp_path):
    run = tiny_stylegan2(tmp_path, conditional=True)
    generator = train(run)
    assert generator.label_size > 1
    assert load_weights(tmp_path / "model").generator.label_size == generator.label_size


def test_scores_sheets_best_weights_and_sizes_are_written(tmp_path):
    options = {"save_kimg": 0.008, "evaluate_kimg": 0.008, "sample_kimg": 0.008, "keep": 1}
    train(total(tiny_stylegan2(tmp_path, **options), 0.016))
    assert sum("fid" in row for row in read_metrics(tmp_path)) == 2
    assert {path.name for path in (tmp_path / "samples").iterdir()} == {
        "reals.png", "fixed_00000000.png", "fixed_00000008.png", "fixed_00000016.png",
    }  # fmt: skip
    assert (tmp_path / "best0/model.safetensors").is_file()
    assert Checkpoint(tmp_path).steps() == [16]
    assert json.loads((tmp_path / "parameters.json").read_text())["generator"] > 0
    assert json.loads((tmp_path / "model/config.json").read_text())["step"] == 16


def test_scoring_leaves_training_as_it_is(tmp_path):
    train(total(tiny_stylegan2(tmp_path / "one"), 0.012))
    train(total(tiny_stylegan2(tmp_path / "two", evaluate_kimg=0.004, sample_kimg=0.004), 0.012))
    assert same(tmp_path / "one", tmp_path / "two") == []


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_run_on_a_gpu_resumes_and_scores(tmp_path, precision):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    options = {"device": "cuda", "precision": precision, "channels_last": True}
    run = tiny_stylegan2(tmp_path, evaluate_kimg=0.004, sample_kimg=0.004, **options)
    train(run)
    train(total(run, 0.016))
    rows = read_metrics(tmp_path)
    assert rows[-1]["step"] == 16
    assert "fid" in rows[-1]


def test_a_run_goes_on_from_weights_and_their_number_of_images(tmp_path):
    train(total(tiny_stylegan2(tmp_path / "first"), 0.008))
    run = tiny_stylegan2(
        tmp_path / "second", initial_weights=str(tmp_path / "first/model"), initial_kimg=0.008
    )
    still = replace(run, step=replace(run.step, average_kimg=1e9))  # the average stays put
    train(total(still, 0.012))
    assert [row["step"] for row in read_metrics(tmp_path / "second")] == [12]
    first, second = (
        load_file(tmp_path / name / "model/model.safetensors") for name in ("first", "second")
    )
    name = "mapping.dense0.weight"
    torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-6)
    assert not torch.equal(first[name], load_file(tmp_path / "first/model/raw.safetensors")[name])
    assert read_metrics(tmp_path / "second")[0]["iteration"] == 1


def test_intervals_in_thousands_of_images_are_at_least_one_image():
    assert [images_of(kimg) for kimg in (0, 0.0001, 0.5, 40.0)] == [0, 1, 500, 40_000]


@pytest.mark.parametrize(("before", "after"), [(0, 3), (3, 0), (3, 2), (2, 1), (1, 4)])
def test_fine_tuning_takes_another_number_of_classes(tmp_path, before, after):
    """None, several, one: what depends on the classes starts anew, all else is kept."""
    for size, name in ((before, "first"), (after, "second")):
        run = tiny_stylegan2(tmp_path / name, conditional=size > 0)
        networks = run.networks(size)
        pair = build_generator(networks), build_discriminator(networks)
        if name == "first":
            save_weights(tmp_path / "weights", networks, pair[0], discriminator=pair[1])
            saved = pair
        else:
            own = [
                {key: value.clone() for key, value in part.state_dict().items()} for part in pair
            ]
            start_from(tmp_path / "weights", *pair, networks)
    for source, fresh, loaded in zip(saved, own, pair, strict=True):
        states = source.state_dict(), loaded.state_dict()
        for key, value in states[1].items():
            there = states[0].get(key)
            kept = there is not None and there.shape == value.shape
            assert torch.equal(value, there if kept else fresh[key]), key
            assert kept or "label_concat" in key or "dense0" in key or "output" in key, key
