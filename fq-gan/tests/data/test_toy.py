"""Toy images are drawn from a seed, alike but never the same."""

import pytest
import torch

from fqgan.data.datasets import DataConfig, build_images
from fqgan.data.toy import SHAPES, toy_domain, toy_images


def test_a_seed_gives_the_same_images_and_another_seed_others():
    assert torch.equal(toy_images(30, seed=1).pixels, toy_images(30, seed=1).pixels)
    assert not torch.equal(toy_images(30, seed=1).pixels, toy_images(30, seed=2).pixels)


def test_classes_come_in_turn_and_have_names():
    images = toy_images(25)
    assert images.labels.tolist() == [n % 10 for n in range(25)]
    assert images.class_names == list(SHAPES)
    assert images.pixels.shape == (25, 3, 32, 32)


def test_images_of_a_class_differ_in_place_colour_and_size():
    images = toy_images(200)
    circles = images.pixels[images.labels == 0].float()
    brightest = circles.amax(1).flatten(1)
    covered = (brightest > 200).sum(1)
    assert covered.unique().numel() > 5
    assert brightest.argmax(1).unique().numel() > 10
    assert len(circles.unique(dim=0)) == len(circles)


def test_shapes_can_be_told_apart():
    # The nearest neighbour in a simple descriptor (edges, in any place and colour) finds the class.
    images = toy_images(2000, seed=3)
    gray = images.pixels.float().amax(1)
    outline = torch.fft.rfft2(gray - gray.mean((1, 2), keepdim=True)).abs().flatten(1)
    outline = outline / outline.norm(dim=1, keepdim=True)
    distance = torch.cdist(outline[:500], outline[500:])
    found = images.labels[500:][distance.argmin(1)]
    assert (found == images.labels[:500]).float().mean() > 0.6


def test_too_few_or_too_small_images_are_refused():
    with pytest.raises(ValueError, match="toy images: 9 of 32 pixels"):
        toy_images(9)


def test_the_two_renderings_show_the_same_shapes_in_the_same_places():
    filled, inked = (toy_domain(20, style, seed=3).pixels.float() for style in ("filled", "inked"))
    assert filled.shape == (20, 3, 64, 64)
    assert filled.mean() < 128 < inked.mean()
    for dull, paper in zip(filled, inked, strict=True):
        inside = dull.amax(0) > 140  # bright shape on dull ground
        outline = paper.amax(0) < 60
        assert outline.any()
        near = torch.nn.functional.max_pool2d(inside[None].float(), 7, 1, 3)[0] > 0
        assert near[outline].float().mean() > 0.9


def test_a_smaller_variation_keeps_shapes_near_the_middle_and_of_one_size():
    def spreads(variation):
        shape = toy_images(400, variation=variation).pixels.amax(dim=1) > 200  # bright, (B, R, R)
        size = shape.sum(dim=(1, 2)).float()
        place = (shape.sum(dim=1) * torch.arange(32)).sum(dim=1) / size
        circles = torch.arange(400) % 10 == 0
        return float(place[circles].std()), float(size[circles].std() / size[circles].mean())

    for one, half, whole in zip(spreads(0.0), spreads(0.5), spreads(1.0), strict=True):
        assert one < 0.05 < half < 0.7 * whole
    with pytest.raises(ValueError, match=r"--data\.toy-variation must be in"):
        DataConfig("toy", toy_variation=1.5)
    built = build_images(DataConfig("toy", toy_images=20, toy_variation=0.5))
    assert torch.equal(built.pixels, toy_images(20, variation=0.5).pixels)
    assert not torch.equal(built.pixels, toy_images(20).pixels)
