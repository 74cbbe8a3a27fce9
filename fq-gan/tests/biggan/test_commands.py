""""""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from factories import real_batch, tiny_config
from PIL import Image
from tiny_runs import rows_of, tiny_run

from fqgan.biggan.commands import (
    EvaluateConfig,
    SampleConfig,
    evaluate,
    evaluate_main,
    sample,
    sample_main,
)
from fqgan.biggan.config import DiscriminatorConfig, GeneratorConfig, QuantizerConfig
from fqgan.biggan.networks import build_discriminator, build_generator
from fqgan.biggan.sampling import (
    Sampler,
    build_sampler,
    class_sheet,
    interpolation_sheets,
    interpolation_video,
    load_discriminator,
    load_weights,
    random_sheet,
    start_from,
)
from fqgan.biggan.train import train
from fqgan.gan import Latents
from fqgan.runs import save_weights, weights_of_run
from fqgan.scoring import ScoringOptions


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "model"
    config = tiny_config(generator=GeneratorConfig(4, latent_dim=8, shared_dim=4))
    return save_weights(folder, config, build_generator(config), class_names=["a", "b/c", "d"])


def test_every_kind_of_sample_is_written(weights, tmp_path):
    config = SampleConfig(
        weights=str(weights),
        out=str(tmp_path),
        device="cpu",
        sheets=True,
        random_sheet=True,
        interpolations=1,
        npz=5,
        each=2,
        classes=("d", "1"),
        columns=3,
        classes_per_sheet=1,
        titles=False,
        batch_size=4,
    )
    paths = {str(path.relative_to(tmp_path)) for path in sample(config)}
    assert paths == {
        "samples0.png",
        "samples1.png",
        "random_samples.png",
        "interpZ0.png",
        "interpZY0.png",
        "interpY0.png",
        "samples.npz",
        "d/00000.png",
        "d/00001.png",
        "b_c/00000.png",
        "b_c/00001.png",
    }
    with np.load(tmp_path / "samples.npz") as content:
        assert content["x"].shape == (5, 3, 32, 32)
        assert content["x"].dtype == np.uint8
        assert content["y"].shape == (5,)
    with Image.open(tmp_path / "samples0.png") as sheet:
        assert sheet.size == (3 * 34 + 2, 34 + 2)


def test_a_video_goes_through_the_classes(weights, tmp_path):
    options = {"weights": str(weights), "out": str(tmp_path), "device": "cpu"}
    for classes in (("a", "d"), ("a",)):
        config = SampleConfig(**options, video="way.gif", video_seconds=0.2, classes=classes)
        assert sample(config) == [tmp_path / "way.gif"]
        with Image.open(tmp_path / "way.gif") as video:
            assert 1 < video.n_frames <= 5  # equal neighbours are stored once
    with pytest.raises(ValueError, match=r"--video way.avi must end with"):
        SampleConfig(**options, video="way.avi")


def test_a_video_of_separate_class_embeddings_changes_half_way(tmp_path):
    config = tiny_config()
    generator = build_generator(config).eval()
    sampler = build_sampler(generator, seed=0)
    path = interpolation_video(sampler, tmp_path / "a.gif", [0, 2], frames=6, per_second=25)
    assert path.exists()


def test_the_same_seed_draws_the_same_images(weights, tmp_path):
    for name in ("one", "two"):
        config = SampleConfig(weights=str(weights), out=str(tmp_path / name), npz=3, device="cpu")
        sample(config)
    first, second = (np.load(tmp_path / name / "samples.npz")["x"] for name in ("one", "two"))
    np.testing.assert_array_equal(first, second)


def test_a_run_brings_its_settings_and_the_curve_has_a_row_for_each_deviation(tmp_path, capsys):
    train(tiny_run(tmp_path, max_steps=1))
    sample_main(
        ["--run-dir", str(tmp_path), "--device", "cpu", "--truncation-curve", "0.5", "0.5", "1"]
    )
    path = tmp_path / "samples" / "truncation.jsonl"
    assert capsys.readouterr().out.strip() == str(path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["z_std"] for row in rows] == [0.5, 1.0]
    assert all(row["fid"] >= 0 for row in rows)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"run_dir": "a", "weights": "b"}, "only one of"),
        ({"columns": 0}, "--columns must be at least 1"),
        ({"npz": -1}, "--npz must not be negative"),
        ({"z_std": 0}, "--z-std must be positive"),
        ({"truncation_curve": (0.5, 0, 1)}, "--truncation-curve"),
    ],
)
def test_a_bad_option_is_named(options, said):
    with pytest.raises(ValueError, match=said):
        SampleConfig(**options)


def test_a_class_that_there_is_not_is_named(weights, tmp_path):
    config = SampleConfig(weights=str(weights), out=str(tmp_path), classes=("z",), device="cpu")
    with pytest.raises(ValueError, match=r"--classes z.*3 classes, such as a"):
        sample(config)


def test_nothing_to_draw_from_is_said():
    with pytest.raises(ValueError, match="no weights are given"):
        sample(SampleConfig())


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(tiny_run(folder, max_steps=2, evaluate_every=2))
    return folder


def test_a_run_is_scored_as_during_training(run_dir, capsys):
    evaluate_main(["--run-dir", str(run_dir), "--device", "cpu", "--seed", "1"])
    printed = json.loads(capsys.readouterr().out)
    logged = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert printed["fid"] == pytest.approx(logged[-1]["fid"], rel=1e-6)
    assert printed["step"] == 2
    assert printed["features"] == "random"
    assert not printed["comparable"]
    assert "not comparable" in printed["protocol"]
    assert printed["use_average"]
    assert not {"split", "limit"} & printed.keys()  # toy images have no splits, and all are used
    assert rows_of(run_dir)[-1]["fid"] == printed["fid"]


def test_options_of_the_command_line_win_over_those_of_the_run(run_dir, capsys):
    words = ["--run-dir", str(run_dir), "--device", "cpu", "--best", "--z-std", "0.5"]
    evaluate_main([*words, "--scoring.num-images", "8", "--no-use-average"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["num_images"] == 8
    assert (printed["z_std"], printed["use_average"]) == (0.5, False)
    assert "best0" in printed["weights"]


def test_a_file_of_samples_needs_features_that_classify(tmp_path):
    np.savez(tmp_path / "s.npz", x=np.zeros((4, 3, 32, 32), np.uint8), y=np.zeros(4, np.int64))
    scoring = ScoringOptions(features="random", num_images=4, splits=2)
    config = EvaluateConfig(samples=str(tmp_path / "s.npz"), device="cpu", scoring=scoring)
    with pytest.raises(ValueError, match=r"--scoring\.features random do not classify"):
        evaluate(config)


def test_two_sources_or_none_are_refused():
    with pytest.raises(ValueError, match="only one of"):
        EvaluateConfig(run_dir="a", samples="b")
    with pytest.raises(ValueError, match="nothing to score"):
        evaluate(EvaluateConfig())


def build(statistics="running", shared_dim=0, **options):
    torch.manual_seed(0)
    config = tiny_config(generator=GeneratorConfig(4, latent_dim=8, shared_dim=shared_dim))
    generator = build_generator(config)
    latents = Latents(8, 3, seed=3)
    return generator, Sampler(generator, latents, statistics=statistics, batch_size=4, **options)


@pytest.mark.parametrize("statistics", ["running", "batch", "standing"])
def test_sampling_leaves_the_generator_as_it_is(statistics):
    generator, sampler = build(statistics, standing_batches=2)
    before = copy.deepcopy(generator.state_dict())
    images, labels = sampler.draw(6)
    assert images.shape == (6, 3, 32, 32)
    assert labels.shape == (6,)
    assert float(images.abs().max()) <= 1
    assert generator.training
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_with_running_statistics_an_image_does_not_depend_on_its_neighbours():
    _, sampler = build()
    latent = sampler.latents(6)
    together = sampler.images(latent.z, latent.labels)
    alone = sampler.images(latent.z[2:3], latent.labels[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-5)


def test_images_of_classes_come_class_by_class():
    _, sampler = build()
    drawn = sampler.of_classes([2, 0], 3)
    z = Latents(8, 3, seed=3)(6).z
    expected = sampler.images(z, torch.tensor([2, 2, 2, 0, 0, 0]))
    torch.testing.assert_close(drawn, expected)


def test_sheets_have_a_row_for_each_class(tmp_path):
    _, sampler = build()
    with Image.open(class_sheet(sampler, tmp_path / "a" / "sheet.png", columns=4)) as sheet:
        assert sheet.size == (4 * 34 + 2, 3 * 34 + 2)
    with Image.open(random_sheet(sampler, tmp_path / "random.png", 9)) as sheet:
        assert sheet.size == (3 * 34 + 2, 3 * 34 + 2)


def test_a_shared_embedding_interpolates_noise_and_class(tmp_path):
    _, sampler = build(shared_dim=4)
    paths = interpolation_sheets(sampler, tmp_path, number=1, rows=2, between=1)
    assert sorted(path.name for path in paths) == ["interpY1.png", "interpZ1.png", "interpZY1.png"]
    with Image.open(paths[0]) as sheet:
        assert sheet.size == (3 * 34 + 2, 2 * 34 + 2)


def test_separate_embeddings_interpolate_noise_alone(tmp_path):
    _, sampler = build()
    paths = interpolation_sheets(sampler, tmp_path, rows=2, between=1)
    assert [path.name for path in paths] == ["interpZ0.png"]


@pytest.fixture
def saved(tmp_path):
    config = tiny_config()
    average, raw, discriminator = (
        build_generator(config),
        build_generator(config),
        build_discriminator(config),
    )
    save_weights(
        tmp_path / "model",
        config,
        average,
        raw=raw,
        discriminator=discriminator,
        class_names=["a", "b", "c"],
        step=7,
    )
    return tmp_path / "model", average, raw, discriminator


def same(one, two):
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    )


def test_weights_come_back_as_they_were_saved(saved):
    folder, average, raw, _ = saved
    weights = load_weights(folder)
    assert same(weights.generator, average)
    assert not weights.generator.training
    assert weights.config == tiny_config()
    assert (weights.class_names, weights.step) == (["a", "b", "c"], 7)
    assert same(load_weights(folder, use_average=False).generator, raw)


def test_saving_again_replaces_the_folder_whole(saved):
    folder, average, *_ = saved
    save_weights(folder, tiny_config(), average, step=8)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert load_weights(folder).step == 8


def test_fine_tuning_starts_from_both_networks(saved):
    folder, _, raw, discriminator = saved
    config = tiny_config()
    generator, judge = build_generator(config), build_discriminator(config)
    start_from(folder, generator, judge)
    assert same(generator, raw)
    assert same(judge, discriminator)


@pytest.mark.parametrize("number", [5, 1])
def test_fine_tuning_on_other_classes_starts_what_depends_on_them_anew(saved, number):
    folder, _, raw, discriminator = saved
    config = tiny_config(num_classes=number)
    generator, judge = build_generator(config), build_discriminator(config)
    fresh = judge.embed.weight.clone()
    start_from(folder, generator, judge)
    assert torch.equal(generator.linear.weight, raw.linear.weight)
    assert torch.equal(judge.linear.weight, discriminator.linear.weight)
    assert torch.equal(judge.embed.weight, fresh)


def test_fine_tuning_of_another_network_is_refused(saved):
    folder, *_ = saved
    config = tiny_config(generator=GeneratorConfig(channels=6, latent_dim=8))
    with pytest.raises(ValueError, match="belongs to another network"):
        start_from(folder, build_generator(config), build_discriminator(config))


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights were found.*model.safetensors"):
        load_weights(tmp_path)
    with pytest.raises(FileNotFoundError, match="--initial-weights"):
        start_from(tmp_path, torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))


def test_damaged_weights_are_named(saved):
    folder, *_ = saved
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match=r"model.safetensors is no whole weight file"):
        load_weights(folder)


def test_weights_beside_the_wrong_description_are_named(saved):
    folder, *_ = saved
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"latent_dim": 8', '"latent_dim": 9'))
    with pytest.raises(ValueError, match=r"does not fit the network its config.json describes"):
        load_weights(folder)


def test_a_run_without_a_save_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="train it until its first save"):
        weights_of_run(tmp_path)
    with pytest.raises(FileNotFoundError, match="--best"):
        weights_of_run(tmp_path, best=True)


def test_the_newest_of_the_best_weights_is_taken(tmp_path):
    generator = build_generator(tiny_config())
    for number, step in enumerate((30, 40, 20)):
        save_weights(tmp_path / f"best{number}", tiny_config(), generator, step=step)
    assert weights_of_run(tmp_path, best=True).name == "best1"


def test_the_discriminator_comes_back_with_its_dictionaries(saved, tmp_path):
    folder, average, _, discriminator = saved
    found = load_discriminator(folder)
    assert same(found, discriminator)
    assert not found.training
    save_weights(tmp_path / "bare", tiny_config(), average)
    with pytest.raises(FileNotFoundError, match="holds no discriminator"):
        load_discriminator(tmp_path / "bare")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (QuantizerConfig(layers=()), QuantizerConfig(layers=(0, 2), codebook_size=4)),
        (QuantizerConfig(layers=(0, 2), codebook_size=4), QuantizerConfig(layers=())),
        (QuantizerConfig(layers=(0,), codebook_size=4), QuantizerConfig((0, 1), 4)),
        (QuantizerConfig(layers=(1,), codebook_size=4), QuantizerConfig((1,), 8)),
    ],
)
def test_fine_tuning_may_quantize_other_layers_with_other_codes(tmp_path, before, after):
    """Attention stands behind the quantizer of a block, so that its number changes."""
    wide = DiscriminatorConfig(channels=8, attention=(16,))
    one, two = (tiny_config(discriminator=wide, quantizer=options) for options in (before, after))
    first, second = build_discriminator(one), build_discriminator(two)
    save_weights(tmp_path, one, build_generator(one), discriminator=first)
    start_from(tmp_path, build_generator(two), second, two)
    images, labels = real_batch(one, 2)
    ours, theirs = (network.eval()(images, labels) for network in (second, first))
    torch.testing.assert_close(ours.logits, theirs.logits)
    kept = {name: value for name, value in second.state_dict().items() if name.endswith(".embed")}
    assert len(kept) == len(after.layers)
    if before.layers == (0,):
        assert torch.equal(kept["blocks.0.1.embed"], first.state_dict()["blocks.0.1.embed"])
