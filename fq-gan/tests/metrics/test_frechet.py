"""Frechet distance against closed forms and recorded values."""

import numpy as np
import pytest
import torch

from fqgan.metrics.distances import (
    Moments,
    frechet_distance,
    moments,
    newton_schulz_distance,
    newton_schulz_root,
)

# The authors take the root of a float32 product; ours is exact to about 1e-9.
FID_TOLERANCE = 1e-3


def gaussian(mean, covariance):
    return Moments(torch.tensor(mean).double(), torch.tensor(covariance).double(), 100)


def test_gaussians_of_one_dimension_have_a_closed_form():
    a, b = gaussian([1.0], [[4.0]]), gaussian([3.5], [[9.0]])
    assert frechet_distance(a, b) == pytest.approx(2.5**2 + (2 - 3) ** 2)


def test_commuting_covariances_have_a_closed_form():
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    first, second = torch.rand(2, 5, dtype=torch.float64)
    a, b = (
        Moments(torch.zeros(5).double(), turn @ spread.diag() @ turn.T, 0)
        for spread in (first, second)
    )
    expected = float((first.sqrt() - second.sqrt()).square().sum())
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-9)


def test_a_distribution_has_no_distance_to_itself_even_when_singular():
    few = moments(torch.randn(10, 40))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-5)


def test_the_distance_is_symmetric():
    a, b = moments(torch.randn(50, 8)), moments(torch.randn(60, 8) * 2 + 1)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_different_features_and_nan_are_refused():
    with pytest.raises(ValueError, match="of 3 and of 4 features"):
        frechet_distance(moments(torch.randn(9, 3)), moments(torch.randn(9, 4)))
    with pytest.raises(ValueError, match="NaN"):
        frechet_distance(moments(torch.randn(9, 3)), moments(torch.full((9, 3), torch.nan)))


@pytest.mark.golden
def test_biggan_distances_agree(golden):
    path = golden / "biggan" / "misc" / "metrics.npz"
    if not path.exists():
        pytest.skip("no recorded BigGAN metrics")
    with np.load(path) as file:
        case = {name: file[name] for name in file.files}
    a, b = (moments(torch.from_numpy(case[name])) for name in ("pool1", "pool2"))
    np.testing.assert_allclose(a.mean, case["mu1"], atol=1e-5)  # a float32 mean
    np.testing.assert_allclose(a.covariance, case["sigma1"], atol=1e-10)
    np.testing.assert_allclose(a.covariance, case["torch_cov1"], atol=1e-5)
    assert frechet_distance(a, b) == pytest.approx(float(case["fid_numpy"]), rel=FID_TOLERANCE)
    found = newton_schulz_distance(a, b)
    assert found == pytest.approx(float(case["fid_torch"]), rel=FID_TOLERANCE)
    root = newton_schulz_root(torch.from_numpy(case["sigma1"]).float())
    np.testing.assert_allclose(root, case["sqrt_newton_schulz"][0], atol=1e-5)


@pytest.mark.golden
def test_stylegan_distance_agrees(golden):
    path = golden / "stylegan" / "metrics.npz"
    if not path.exists():
        pytest.skip("no recorded StyleGAN metrics")
    with np.load(path) as case:
        a, b = (moments(torch.from_numpy(case[name])) for name in ("feat_real", "feat_fake"))
        assert frechet_distance(a, b) == pytest.approx(float(case["fid"]), rel=FID_TOLERANCE)
