"""Bilinear resizing of TensorFlow 1."""

import numpy as np
import pytest
import torch

from fqgan.metrics.networks import resize_like_tf1

TOLERANCE = 1e-5
"""Of levels scaled to [-1, 1]."""


def test_a_hand_worked_row():
    row = torch.tensor([0.0, 3.0, 9.0]).view(1, 1, 1, 3)
    # 3 -> 6: places 0, .5, 1, 1.5, 2, 2.5; the last has no right neighbour.
    expected = torch.tensor([0.0, 1.5, 3.0, 6.0, 9.0, 9.0])
    assert torch.equal(resize_like_tf1(row, 1, 6).flatten(), expected)
    # 3 -> 2: places 0 and 1.5, no smoothing.
    assert torch.equal(resize_like_tf1(row, 1, 2).flatten(), torch.tensor([0.0, 6.0]))


def test_an_image_of_the_size_asked_for_is_unchanged():
    images = torch.rand(2, 3, 7, 5)
    assert torch.equal(resize_like_tf1(images, 7, 5), images)


@pytest.mark.golden
def test_resized_images_agree_with_recorded_ones(golden):
    path = golden / "ugatit" / "ugatit_image_pipeline.npz"
    if not path.exists():
        pytest.skip("no recorded image pipeline")
    with np.load(path) as case:
        image = torch.from_numpy(case["rgb"]).permute(2, 0, 1)[None].float()
        names = [name for name in case.files if name.startswith("train_noaug_")]
        assert names
        for name in names:
            expected = case[name]
            ours = resize_like_tf1(image, *expected.shape[:2])[0].permute(1, 2, 0) / 127.5 - 1
            assert np.abs(ours.numpy() - expected).max() < TOLERANCE, name
