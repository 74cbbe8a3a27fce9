"""Fading between resolutions: worked by hand, and against recorded images."""

import math

import pytest
import torch
from factories import Recorded

from fqgan.data.images import normalize
from fqgan.stylegan2.legacy import (
    enlarge,
    fade_reals,
    grow_image,
    grown_to,
    shrink,
    shrink_features,
)

# uint8 levels as floats, averaged in another order.
TOLERANCE = 1e-6


def test_shrinking_undoes_enlarging():
    images = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(shrink(enlarge(images, 4), 4), images)
    assert enlarge(images, 1) is images


def test_reals_fade_to_half_the_resolution():
    images = torch.tensor([0.0, 4.0, 8.0, 8.0, 0.0, 0.0, 0.0, 0.0]).expand(1, 1, 8, 8)
    assert fade_reals(images, 0.25)[0, 0, 0, :4].tolist() == [0.5, 3.5, 8.0, 8.0]
    assert fade_reals(images, 1.0)[0, 0, 0, :4].tolist() == [2.0, 2.0, 8.0, 8.0]
    assert torch.equal(fade_reals(images, 0.0), images)


def test_an_image_is_made_of_the_last_two_resolutions():
    # Features count the blocks that were run; an image of a level is its number.
    def features(level, x):
        return torch.zeros(1, 1, 2**level, 2**level) if x is None else enlarge(x, 2) + 1

    def to_rgb(level, x):
        return x + 10 * level

    assert grow_image(4, 0.0, features, to_rgb).unique().tolist() == [42]
    assert grow_image(4, 0.5, features, to_rgb).unique().tolist() == [(42 + 31) / 2]
    image = grow_image(4, 1.0, features, to_rgb)
    assert image.shape[-1] == 16
    assert image.unique().tolist() == [31]


def test_features_begin_where_the_networks_have_grown_to():
    seen = []

    def from_rgb(level, images):
        seen.append((level, images.shape[-1]))
        return images

    def block(level, x):
        return shrink(x, 2)

    images = torch.randn(1, 1, 16, 16)
    for lod in (0.0, 0.5, 1.0, 2.0):
        assert shrink_features(images, lod, from_rgb, block).shape[-1] == 4
    assert seen == [(4, 16), (4, 16), (3, 8), (3, 8), (2, 4)]


@pytest.mark.parametrize("lod", [-0.1, 2.5])
def test_a_lod_outside_the_network_is_refused(lod):
    with pytest.raises(ValueError, match=r"lod must be in \[0, 2\]"):
        grown_to(4, lod)


@pytest.mark.golden
@pytest.mark.cases("stylegan/data_and_images.npz")
def test_recorded_images_fade_alike(case):
    recorded = Recorded(case)
    images = normalize(recorded["process_reals/in"])
    names = [name for name in recorded.names if name.startswith("process_reals/lod")]
    if not names:
        pytest.skip("no recorded fading")
    for name in names:
        lod = float(name.removeprefix("process_reals/lod"))
        # The recorded input has the resolution that belongs to the lod.
        full = enlarge(images, 2 ** math.floor(lod))
        torch.testing.assert_close(
            fade_reals(full, lod), recorded[name], rtol=TOLERANCE, atol=TOLERANCE
        )
