import numpy as np
import pytest
from PIL import Image
from tiny_runs import tiny_stylegan2

from fqgan.config import sample as dispatched
from fqgan.runs import save_weights
from fqgan.stylegan2.commands import SampleConfig, sample
from fqgan.stylegan2.legacy import build_generator
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


def test_the_command_finds_the_family_of_a_run(tmp_path, capsys):
    train(tiny_stylegan2(tmp_path))
    dispatched(["--run-dir", str(tmp_path), "--device", "cpu"])
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
