""""""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import tiny_stylegan2

from fqgan.metrics.features import build_extractor
from fqgan.runs import save_weights
from fqgan.stylegan2.legacy import build_generator
from fqgan.stylegan2.projection import (
    ProjectConfig,
    ProjectionConfig,
    at_most_256,
    feature_distance,
    noise_correlation,
    project,
    project_images,
    project_main,
    ramp,
    rendered,
    snapshot_steps,
    style_statistics,
)
from fqgan.stylegan2.sampling import seeded_image


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return build_generator(tiny_stylegan2("run").networks(1)).eval().requires_grad_(False)


def pixels(images, wanted):
    return (images - wanted).square().mean(dim=(1, 2, 3))


def test_a_generated_image_is_approached_and_the_noise_stays_normal(generator):
    target = seeded_image(generator, 1, truncation=1.0)[None]
    config = ProjectionConfig(num_steps=60, style_samples=100, regularization=10.0)
    moments = list(project(generator, target, pixels, config))
    assert [moment.step for moment in moments] == list(range(1, 61))
    assert float(moments[-1].distance) < 0.3 * float(moments[0].distance)
    for maps in moments[-1].noise:
        assert float(maps.mean()) == pytest.approx(0.0, abs=1e-5)
        assert float(maps.square().mean()) == pytest.approx(1.0, abs=1e-4)
    images = rendered(generator, moments[-1])
    assert float(pixels(images, target)) < 0.5 * float(moments[0].distance)


def test_the_same_seed_projects_alike(generator):
    target = seeded_image(generator, 1, truncation=1.0)[None]
    config = ProjectionConfig(num_steps=3, style_samples=10)
    one, two = (list(project(generator, target, pixels, config))[-1] for _ in range(2))
    assert torch.equal(one.style, two.style)


def test_statistics_of_styles_are_those_of_the_latents_of_a_seed(generator):
    latents = torch.from_numpy(np.random.RandomState(123).randn(50, 4)).float()
    styles = generator.styles(latents)[:, 0]
    mean, spread = style_statistics(generator, 50, 123)
    torch.testing.assert_close(mean[0], styles.mean(dim=0))
    expected = math.sqrt(float((styles - styles.mean(dim=0)).square().sum()) / 50)
    assert spread == pytest.approx(expected, rel=1e-5)


def test_the_learning_rate_rises_in_a_line_and_falls_as_a_cosine():
    assert ramp(0.0, 0.05, 0.25) == 0.0
    assert ramp(0.025, 0.05, 0.25) == pytest.approx(0.5)
    assert ramp(0.5, 0.05, 0.25) == 1.0
    assert ramp(0.875, 0.05, 0.25) == pytest.approx(0.5)
    assert ramp(1.0, 0.05, 0.25) == pytest.approx(0.0)


def test_correlation_is_one_per_axis_for_stripes_and_counts_all_sizes():
    constant = torch.ones(1, 1, 8, 8)
    assert float(noise_correlation([constant])) == pytest.approx(2.0)
    # At 16 pixels, and again averaged to 8.
    assert float(noise_correlation([torch.ones(1, 1, 16, 16)])) == pytest.approx(4.0)
    stripes = constant.clone()
    stripes[..., 1::2] = -1
    assert float(noise_correlation([stripes])) == pytest.approx(2.0)  # squared: sign is lost


def test_large_images_are_averaged_before_they_are_compared():
    images = torch.randn(1, 3, 512, 512)
    assert at_most_256(images).shape == (1, 3, 256, 256)
    assert at_most_256(images[..., :64, :64]).shape == (1, 3, 64, 64)


def test_the_distance_of_features_is_zero_for_equal_images_and_has_gradients():
    distance = feature_distance(build_extractor("random"))
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    assert distance(images, images.detach()).tolist() == [0.0, 0.0]
    distance(images, torch.zeros(2, 3, 32, 32)).sum().backward()
    assert float(images.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [({"num_steps": 0}, "num-steps"), ({"rampup": 0.0}, "rampup"), ({"lr": 0}, "lr")],
)
def test_a_bad_option_is_named(options, said):
    with pytest.raises(ValueError, match=f"--projection.{said}"):
        ProjectionConfig(**options)


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


def test_pictures_of_ones_own_are_projected(weights, tmp_path):
    for name, size in (("me.png", (40, 30)), ("you.jpg", (8, 8))):
        Image.new("RGB", size, "red").save(tmp_path / name)
    options = {"weights": str(weights), "device": "cpu", "features": "random", "num_snapshots": 1}
    steps = ProjectionConfig(num_steps=2, style_samples=10)
    config = ProjectConfig(
        **options, out=str(tmp_path / "out"), input=(str(tmp_path),), projection=steps
    )
    names = {path.name for path in project_images(config)}
    ends = ("target.png", "step0002.png", "projected.npz")
    assert names == {f"{who}-{end}" for who in ("me", "you") for end in ends}
    with Image.open(tmp_path / "out" / "me-target.png") as image:
        assert image.size == (8, 8)
    twice = ProjectConfig(**options, input=(str(tmp_path / "me.png"),) * 2)
    with pytest.raises(ValueError, match="two pictures called me"):
        project_images(twice)
    (tmp_path / "folders" / "inside.png").mkdir(parents=True)
    with pytest.raises(ValueError, match="folders holds no image"):
        project_images(ProjectConfig(**options, input=(str(tmp_path / "folders"),)))
    with pytest.raises(FileNotFoundError, match="--input nowhere does not exist"):
        project_images(ProjectConfig(**options, input=("nowhere",)))


def test_snapshots_are_spread_and_end_with_the_last_step():
    assert sorted(snapshot_steps(1000, 5)) == [200, 400, 600, 800, 1000]


def test_what_is_missing_is_named(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("FQGAN_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="no weights are given"):
        project_images(ProjectConfig(seeds=("1",)))
    with pytest.raises(ValueError, match="give --input, --seeds or --num-images"):
        project_images(ProjectConfig(weights=str(weights)))
    with pytest.raises(FileNotFoundError, match=r"--feature-weights .* choose squeezenet"):
        project_images(ProjectConfig(weights=str(weights), seeds=("1",), device="cpu"))
    with pytest.raises(ValueError, match="only one of"):
        ProjectConfig(run_dir="a", weights="b")
    with pytest.raises(ValueError, match="--num-snapshots"):
        ProjectConfig(num_snapshots=0)
