import json

import numpy as np
import pytest
from factories import tiny_config
from PIL import Image
from tiny_runs import tiny_run

from fqgan.biggan import GeneratorConfig, build_generator
from fqgan.biggan.commands import SampleConfig, sample, sample_main
from fqgan.biggan.train import train
from fqgan.runs import save_weights


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
