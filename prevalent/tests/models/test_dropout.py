"""Masks of feature dropout."""

import pytest
import torch

from prevalent.models.decoders import FeatureDropout, drop_images


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(100_003,), (20, 36, 140)])
def test_masks_have_the_asked_share_of_zeros_and_keep_the_mean(p, shape):
    torch.manual_seed(0)
    dropped = FeatureDropout(p)(torch.ones(shape))
    zeros, scaled = dropped.unique().tolist()
    assert zeros == 0
    assert scaled == pytest.approx(1 / (1 - p), rel=1e-3)
    spread = 5 * (p * (1 - p) / dropped.numel()) ** 0.5
    assert (dropped == 0).float().mean().item() == pytest.approx(p, abs=spread)


def test_elements_are_dropped_independently():
    torch.manual_seed(0)
    mask = (FeatureDropout(0.5)(torch.ones(4, 50_000)) == 0).double()
    for shift in (1, 2, 3, 4):
        pairs = torch.stack([mask.flatten()[:-shift], mask.flatten()[shift:]])
        assert abs(torch.corrcoef(pairs)[0, 1].item()) < 0.01


def test_eval_mode_and_zero_return_the_features_themselves():
    features = torch.randn(3, 4)
    assert FeatureDropout(0.5).eval()(features) is features
    assert FeatureDropout(0.0)(features) is features


def test_gradients_are_masked_alike():
    features = torch.ones(1000, requires_grad=True)
    dropped = FeatureDropout(0.4)(features)
    dropped.sum().backward()
    torch.testing.assert_close(features.grad, dropped.detach())


def test_angles_are_never_dropped():
    torch.manual_seed(0)
    features = torch.ones(2, 3, 100)
    dropped = drop_images(FeatureDropout(0.5), features, angle_size=40)
    assert torch.equal(dropped[..., 60:], features[..., 60:])
    assert set(dropped[..., :60].unique().tolist()) == {0.0, 2.0}
