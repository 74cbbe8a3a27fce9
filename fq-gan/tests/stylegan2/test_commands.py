"""Folders of weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from stylegan_cases import tiny_config
from tiny_runs import rows_of, tiny_stylegan2

from fqgan.config import evaluate as dispatch_evaluate, sample as dispatch_sample
from fqgan.metrics.features import build_extractor
from fqgan.released.loading import Report
from fqgan.released.stylegan2 import Snapshot
from fqgan.runs import save_weights
from fqgan.scoring import ScoringOptions
from fqgan.stylegan2 import commands as module
from fqgan.stylegan2.commands import (
    EvaluateConfig,
    SampleConfig,
    evaluate,
    read_classifiers,
    sample,
    spread_labels,
)
from fqgan.stylegan2.legacy import build_discriminator, build_generator
from fqgan.stylegan2.sampling import (
    Sampler,
    labels_for,
    load_discriminator,
    load_weights,
    noise_inputs,
    numbers,
    repeated_label,
    seeded_image,
    seeded_inputs,
    seeded_styles,
    start_from,
    style_mixing_images,
    style_mixing_sheet,
    truncation_sheet,
)
from fqgan.stylegan2.train import train


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    networks = tiny_stylegan2("run").networks(1)
    folder = tmp_path_factory.mktemp("weights") / "model"
    return save_weights(folder, networks, build_generator(networks))


def test_every_kind_of_sample_is_written(weights, tmp_path):
    config = SampleConfig(
        weights=str(weights),
        out=str(tmp_path),
        device="cpu",
        seeds=("3-4", "7"),
        rows=("1",),
        columns=("5", "6"),
        mixing_layers=("0-9",),
        truncation_sheet=(0.0, 1.0),
        titles=False,
        sheet=4,
        npz=5,
        batch_size=2,
    )
    paths = {str(path.relative_to(tmp_path)) for path in sample(config)}
    assert paths == {
        *("seed0003.png", "seed0004.png", "seed0007.png"),
        *("mixing/1-5.png", "mixing/1-6.png", "mixing/grid.png"),
        *("mixing/1-1.png", "mixing/5-5.png", "mixing/6-6.png"),
        *("truncation.png", "sheet.png", "samples.npz"),
    }
    with np.load(tmp_path / "samples.npz") as content:
        assert content["x"].shape == (5, 3, 8, 8)
    with Image.open(tmp_path / "truncation.png") as sheet:
        assert sheet.size == (2 * 10 + 2, 3 * 10 + 2)


def test_a_video_and_titles_are_written(tmp_path):
    generator = generator_of()
    config = tiny_stylegan2("run").networks(0)
    save_weights(tmp_path / "model", config, generator)
    options = {"weights": str(tmp_path / "model"), "out": str(tmp_path), "device": "cpu"}
    written = sample(
        SampleConfig(**options, video="way.gif", video_seconds=0.4, truncation_sheet=(0.0, 1.0))
    )
    assert written == [tmp_path / "way.gif", tmp_path / "truncation.png"]
    with Image.open(written[0]) as video:
        assert video.n_frames == 10
    with Image.open(written[1]) as sheet:
        assert sheet.width > 2 * 10 + 2
        assert sheet.height > 8 * 10 + 2


def test_the_command_finds_the_family_of_a_run(tmp_path, capsys):
    train(tiny_stylegan2(tmp_path))
    dispatch_sample(["--run-dir", str(tmp_path), "--device", "cpu"])
    written = capsys.readouterr().out.split()
    assert str(tmp_path / "samples/seed0000.png") in written
    assert str(tmp_path / "samples/sheet.png") in written


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"run_dir": "a", "weights": "b"}, "only one of"),
        ({"rows": ("1",)}, "both --rows and --columns"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"npz": -1}, "--npz must not be negative"),
        ({"seeds": ("a",)}, "--seeds a: give numbers"),
    ],
)
def test_a_bad_option_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        SampleConfig(**options)


def test_nothing_to_draw_from_is_said():
    with pytest.raises(ValueError, match="no weights are given"):
        sample(SampleConfig())


OFFLINE = ScoringOptions(features="random", num_images=8, batch_size=4, splits=2)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(tiny_stylegan2(folder, evaluate_kimg=0.008))
    return folder


def test_a_run_is_scored_as_during_training(run_dir, capsys):
    dispatch_evaluate(["--run-dir", str(run_dir), "--device", "cpu", "--seed", "1"])
    printed = json.loads(capsys.readouterr().out)
    logged = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert printed["fid"] == pytest.approx(logged[-1]["fid"], rel=1e-6)
    assert printed["step"] == 8
    assert printed["metrics"] == ["fid50k"]
    assert not printed["comparable"]
    assert rows_of(run_dir)[-1]["fid"] == printed["fid"]


def test_the_five_path_lengths_come_without_a_data_set(tmp_path):
    run = tiny_stylegan2("run")
    networks = replace(run, data=replace(run.data, resolution=64)).networks(1)
    save_weights(tmp_path, networks, build_generator(networks))
    names = ("ppl_zfull", "ppl_wfull", "ppl_zend", "ppl_wend", "ppl2_wend")
    config = EvaluateConfig(
        weights=str(tmp_path),
        metrics=names,
        random_lpips=True,
        path_pairs=4,
        device="cpu",
        scoring=OFFLINE,
    )
    found = evaluate(config)
    assert all(found[name] >= 0 for name in names)
    assert "not comparable" in found["lpips"]
    assert (found["path_pairs"], found["trial"]) == (4, True)
    assert not {"num_images", "data"} & found.keys()  # there were none


def test_separability_asks_every_classifier(run_dir, monkeypatch, tmp_path):
    networks = tiny_stylegan2("run").networks(1)
    for name in ("celebahq-classifier-00-male", "celebahq-classifier-01-smiling", "vgg16"):
        (tmp_path / f"{name}.pkl").write_bytes(b"")
    asked = []

    def load(path: Path) -> Snapshot:
        asked.append(path.name)
        torch.manual_seed(len(asked))
        reports: list[Report] = []
        return Snapshot(networks, None, build_discriminator(networks), None, 0.0, reports)

    monkeypatch.setattr(module, "load_snapshot", load)
    config = EvaluateConfig(
        weights=str(run_dir / "model"),
        metrics=("ls",),
        classifiers=str(tmp_path),
        separability_images=20,
        device="cpu",
        scoring=OFFLINE,
    )
    found = evaluate(config)
    assert asked == ["celebahq-classifier-00-male.pkl", "celebahq-classifier-01-smiling.pkl"]
    assert found["ls_z"] >= 1
    assert found["ls_w"] >= 1
    assert found["ls_attributes"] == 2
    assert (found["separability_images"], found["trial"]) == (20, True)


def test_a_classifier_that_lacks_a_variable_is_refused(monkeypatch, tmp_path):
    (tmp_path / "celebahq-classifier-00-male.pkl").write_bytes(b"")
    networks = tiny_stylegan2("run").networks(1)
    report = Report("D", {}, ("output.bias",), (), ())
    snapshot = Snapshot(networks, None, build_discriminator(networks), None, 0.0, [report])
    monkeypatch.setattr(module, "load_snapshot", lambda path: snapshot)
    with pytest.raises(ValueError, match=r"00-male\.pkl does not fit.*output\.bias"):
        read_classifiers(str(tmp_path), torch.device("cpu"))


def test_precision_and_recall_take_all_images_of_vgg(run_dir, monkeypatch):
    asked = []

    def build(name, *, weights, device):
        asked.append((name, weights))
        return build_extractor("random", device=device)

    monkeypatch.setattr(module, "build_extractor", build)
    run = tiny_stylegan2(run_dir)
    config = EvaluateConfig(
        run_dir=str(run_dir),
        metrics=("pr50k3",),
        vgg_weights="vgg.pth",
        device="cpu",
        data=run.data,
        scoring=OFFLINE,
    )
    found = evaluate(config)
    assert asked == [("vgg16", "vgg.pth")]
    assert 0 <= found["pr50k3_precision"] <= 1
    assert 0 <= found["pr50k3_recall"] <= 1


def test_weights_that_are_missing_are_named(run_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("FQGAN_CACHE", str(tmp_path))

    def config(*metrics):
        return EvaluateConfig(
            weights=str(run_dir / "model"), metrics=metrics, device="cpu", scoring=OFFLINE
        )

    with pytest.raises(FileNotFoundError, match=r"prepare lpips.*--vgg-weights.*--random-lpips"):
        evaluate(config("ppl_wend"))
    with pytest.raises(FileNotFoundError, match="ls needs --classifiers"):
        evaluate(config("ls"))
    with pytest.raises(FileNotFoundError, match="holds none of them"):
        read_classifiers(str(tmp_path), torch.device("cpu"))


def test_an_inception_score_needs_features_that_classify(run_dir):
    run = tiny_stylegan2(run_dir)
    config = EvaluateConfig(
        run_dir=str(run_dir), metrics=("is50k",), device="cpu", data=run.data, scoring=OFFLINE
    )
    with pytest.raises(ValueError, match="is50k needs features that classify"):
        evaluate(config)


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="only one of"):
        EvaluateConfig(run_dir="a", weights="b")
    with pytest.raises(ValueError, match="--metrics is empty"):
        EvaluateConfig(metrics=())
    with pytest.raises(ValueError, match="--path-pairs"):
        EvaluateConfig(path_pairs=1)
    with pytest.raises(ValueError, match="no weights are given"):
        evaluate(EvaluateConfig())


def test_labels_depend_on_the_number_alone():
    class Generator:
        style_average = torch.zeros(4)
        label_size = 3

    assert spread_labels(Generator, 5).tolist() == [0, 1, 2, 0, 1]
    Generator.label_size = 0
    assert spread_labels(Generator, 5) is None


def generator_of(classes=0):
    run = tiny_stylegan2("run", conditional=classes > 0)
    generator = build_generator(run.networks(classes)).eval()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.5)
    generator.style_average.fill_(0.25)
    return generator


def test_a_sampler_repeats_itself_and_leaves_the_random_state_alone():
    generator = generator_of()
    before = torch.random.get_rng_state()
    one, two = (Sampler(generator, seed=3)(5) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(one, Sampler(generator, seed=4)(5))


def test_the_batch_size_changes_nothing_but_the_noise():
    generator = generator_of()
    one = Sampler(generator, noise="fixed", batch_size=2)(5)
    torch.testing.assert_close(one, Sampler(generator, noise="fixed", batch_size=5)(5))


def test_a_label_is_given_to_all_images():
    sampler = Sampler(generator_of(classes=3), label=2)
    assert sampler.draw(4)[1].tolist() == [2, 2, 2, 2]
    with pytest.raises(ValueError, match=r"--label 3: these weights have 3 classes"):
        Sampler(generator_of(classes=3), label=3)
    with pytest.raises(ValueError, match="no classes"):
        repeated_label(generator_of(), 0, 1)


def test_labels_are_for_networks_that_take_them():
    assert labels_for(torch.tensor([1]), 0) is None
    assert labels_for(torch.tensor([1]), 2).tolist() == [1]


def test_a_seed_gives_the_latent_first_and_then_the_noise_of_every_layer():
    generator = generator_of()
    latent, noise = seeded_inputs(generator, 66)
    state = np.random.RandomState(66)
    np.testing.assert_array_equal(latent, state.randn(1, 4).astype(np.float32))
    assert [part.shape for part in noise] == [part.shape for part in noise_inputs(generator)]
    for part in noise:
        np.testing.assert_array_equal(part, state.randn(*part.shape).astype(np.float32))
    expected = generator(latent, truncation=0.5, noise=noise)[0]
    torch.testing.assert_close(seeded_image(generator, 66), expected, rtol=0, atol=0)


def test_mixed_images_take_the_chosen_layers_from_the_column(tmp_path):
    generator = generator_of()
    rows = seeded_styles(generator, [1, 2], truncation=0.7)
    columns = seeded_styles(generator, [3], truncation=0.7)
    everything = style_mixing_images(generator, rows, columns, range(generator.num_layers))
    nothing = style_mixing_images(generator, rows, columns, [])
    assert set(everything) == {(0, -1), (1, -1), (-1, 0), (0, 0), (1, 0)}
    torch.testing.assert_close(everything[1, 0], everything[-1, 0])
    torch.testing.assert_close(nothing[1, 0], nothing[1, -1])
    path = style_mixing_sheet(everything, tmp_path / "grid.png")
    with Image.open(path) as sheet:
        assert sheet.size == (2 * 8, 3 * 8)
    with pytest.raises(ValueError, match="--mixing-layers 4"):
        style_mixing_images(generator, rows, columns, [4])


def test_truncation_to_nothing_gives_the_average_style(tmp_path):
    generator = generator_of()
    styles = seeded_styles(generator, [1, 2], truncation=0.0)
    torch.testing.assert_close(styles, torch.full_like(styles, 0.25))
    path = truncation_sheet(generator, [1, 2], [0.0, 0.5, 1.0], tmp_path / "t.png")
    with Image.open(path) as sheet:
        assert sheet.size == (3 * 10 + 2, 2 * 10 + 2)


def test_numbers_and_ranges_are_read():
    assert numbers(["85", "100-102,7"], "seeds") == [85, 100, 101, 102, 7]
    with pytest.raises(ValueError, match=r"--seeds x: give numbers"):
        numbers(["x"], "seeds")


def test_saved_networks_draw_the_same_images(tmp_path):
    config = tiny_config(label_size=2)
    generator, raw = build_generator(config), build_generator(config)
    save_weights(tmp_path / "model", config, generator, raw=raw, class_names=["a", "b"], step=7)
    latents, labels = torch.randn(2, generator.latent_dim), torch.tensor([0, 1])
    for network, use_average in ((generator, True), (raw, False)):
        weights = load_weights(tmp_path / "model", use_average=use_average)
        assert (weights.config, weights.class_names, weights.step) == (config, ["a", "b"], 7)
        ours = weights.generator(latents, labels, noise="fixed")
        assert torch.equal(ours, network.eval()(latents, labels, noise="fixed"))


def test_a_run_can_start_from_saved_networks(tmp_path):
    config = tiny_config()
    first = build_generator(config), build_discriminator(config)
    save_weights(tmp_path / "model", config, first[0], discriminator=first[1])
    second = build_generator(config), build_discriminator(config)
    start_from(tmp_path / "model", *second)
    for ours, theirs in zip(second, first, strict=True):
        state = theirs.state_dict()
        assert all(torch.equal(v, state[k]) for k, v in ours.state_dict().items())


def test_absent_and_foreign_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights"):
        load_weights(tmp_path)
    with pytest.raises(FileNotFoundError, match="--initial-weights"):
        start_from(tmp_path, torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
    save_weights(tmp_path / "model", tiny_config(), torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="does not fit"):
        load_weights(tmp_path / "model")


def test_the_discriminator_comes_back_with_its_dictionaries(tmp_path):
    config = tiny_config()
    generator, discriminator = build_generator(config), build_discriminator(config)
    save_weights(tmp_path / "model", config, generator, discriminator=discriminator)
    found, state = load_discriminator(tmp_path / "model"), discriminator.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in found.state_dict().items())
    save_weights(tmp_path / "bare", config, generator)
    with pytest.raises(FileNotFoundError, match="holds no discriminator"):
        load_discriminator(tmp_path / "bare")
