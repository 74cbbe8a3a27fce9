"""Precision and recall on sets worked by hand, and on recorded features."""

import numpy as np
import pytest
import torch

from fqgan.metrics.distances import cover, neighbour_radii, precision_recall

# The recorded distances are squared and were rounded to half precision.
HALF_TOLERANCE = 2e-2


def line(*places):
    return torch.tensor(places, dtype=torch.float32)[:, None]


def test_a_hand_worked_case():
    # k = 1. Real 0, 1, 5: radii 1, 1, 4 cover [-1, 2] and [1, 9]. Fake 1.5, 9.5, 30: radii 8, 8,
    # 20.5 cover [-6.5, 17.5] and more.
    real, fake = line(0, 1, 5), line(1.5, 9.5, 30)
    assert neighbour_radii(real, 1).tolist() == [1, 1, 4]
    assert neighbour_radii(fake, 1).tolist() == [8, 8, 20.5]
    found = precision_recall(real, fake, k=1)
    assert found.precision == pytest.approx(1 / 3)
    assert found.recall == 1


def test_a_set_covers_itself_and_nothing_far_away():
    features = torch.randn(30, 5)
    assert precision_recall(features, features) == (1, 1)
    assert precision_recall(features, features + 100) == (0, 0)


def test_chunks_change_nothing():
    features, probes = torch.randn(2, 25, 4)
    radii = neighbour_radii(features)
    torch.testing.assert_close(neighbour_radii(features, chunk=4), radii)
    whole, parts = cover(features, radii, probes), cover(features, radii, probes, chunk=4)
    assert torch.equal(whole.inside, parts.inside)
    assert torch.equal(whole.nearest, parts.nearest)


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="3 neighbours need more than 3 images, got 3"):
        precision_recall(torch.randn(3, 2), torch.randn(9, 2))


@pytest.mark.golden
def test_recorded_manifolds_agree(golden):
    path = golden / "stylegan" / "metrics.npz"
    if not path.exists():
        pytest.skip("no recorded StyleGAN metrics")
    with np.load(path) as file:
        case = {name: file[name] for name in file.files}
    real, fake = (torch.from_numpy(case[name]) for name in ("feat_real", "feat_fake"))
    found = precision_recall(real, fake)
    assert found.precision == pytest.approx(float(case["pr/precision"][0]))
    assert found.recall == pytest.approx(float(case["pr/recall"][0]))
    radii = neighbour_radii(real)
    np.testing.assert_allclose(radii**2, case["pr/radii_real"][:, 0], rtol=HALF_TOLERANCE)
    np.testing.assert_allclose(
        neighbour_radii(fake) ** 2, case["pr/radii_fake"][:, 0], rtol=HALF_TOLERANCE
    )
    covered = cover(real, radii, fake)
    assert covered.nearest.tolist() == case["pr/nearest"].tolist()
    # A quotient of two rounded numbers, one of them close to 0.
    np.testing.assert_allclose(covered.realism, case["pr/realism"], rtol=0.1)
