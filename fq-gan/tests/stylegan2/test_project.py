import numpy as np
import pytest
from tiny_runs import tiny_stylegan2

from fqgan.runs import save_weights
from fqgan.stylegan2.legacy import build_generator
from fqgan.stylegan2.projection import ProjectConfig, project_images, project_main, snapshot_steps


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    networks = tiny_stylegan2("run").networks(1)
    folder = tmp_path_factory.mktemp("weights") / "model"
    return save_weights(folder, networks, build_generator(networks))


def test_generated_and_real_images_are_projected(weights, tmp_path, capsys):
    words = [
        *("--weights", str(weights), "--out", str(tmp_path), "--device", "cpu"),
        *("--seeds", "3", "--num-images", "1", "--num-snapshots", "2", "--features", "random"),
        *("--projection.num-steps", "4", "--projection.style-samples", "10"),
        *("--data.source", "toy", "--data.toy-images", "12", "--data.resolution", "8"),
    ]
    project_main(words)
    names = {line.rsplit("/", 1)[1] for line in capsys.readouterr().out.split()}
    endings = ("target.png", "step0002.png", "step0004.png", "projected.npz")
    assert names == {f"{prefix}-{end}" for prefix in ("seed0003", "image0000") for end in endings}
    with np.load(tmp_path / "seed0003-projected.npz") as content:
        assert content["style"].shape == (1, 4)
        assert content["distance"].shape == (4,)
        assert content["noise0"].shape == (1, 4, 4)


def test_snapshots_are_spread_and_end_with_the_last_step():
    assert sorted(snapshot_steps(1000, 5)) == [200, 400, 600, 800, 1000]


def test_what_is_missing_is_named(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("FQGAN_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="no weights are given"):
        project_images(ProjectConfig(seeds=("1",)))
    with pytest.raises(ValueError, match="give --seeds or --num-images"):
        project_images(ProjectConfig(weights=str(weights)))
    with pytest.raises(FileNotFoundError, match=r"--feature-weights .* choose squeezenet"):
        project_images(ProjectConfig(weights=str(weights), seeds=("1",), device="cpu"))
    with pytest.raises(ValueError, match="only one of"):
        ProjectConfig(run_dir="a", weights="b")
    with pytest.raises(ValueError, match="--num-snapshots"):
        ProjectConfig(num_snapshots=0)
