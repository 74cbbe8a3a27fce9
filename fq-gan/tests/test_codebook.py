import torch
from factories import tiny_config
from PIL import Image
from torch import nn

from fqgan.biggan.networks import build_discriminator
from fqgan.page.codebook import Codebook, colour_of, draw_codes, fired_codes, quantizers
from fqgan.quantizer import FeatureQuantizer


class Corners(nn.Module):
    """Looks at 2 x 2 places of an image; code 0 is black, code 1 is white."""

    def __init__(self):
        super().__init__()
        self.quantizer = FeatureQuantizer(3, 3)
        self.quantizer.set_codes(torch.tensor([[-1.0] * 3, [1.0] * 3, [9.0] * 3]))

    def forward(self, images):
        return self.quantizer(nn.functional.avg_pool2d(images, images.shape[-1] // 2))


def bright_corners(*levels):
    """Images of 16 pixels, black but for the lower right quarter."""
    images = -torch.ones(len(levels), 3, 16, 16)
    for image, level in zip(images, levels, strict=True):
        image[:, 8:, 8:] = level
    return images


def book_of(images):
    network = Corners().eval()
    return Codebook(network, network, images, batch_size=2)


def test_the_code_and_the_distance_of_every_place_are_found():
    fired = book_of(bright_corners(0.5)).fired["quantizer"]
    assert fired.codes.tolist() == [[[0, 0], [0, 1]]]
    torch.testing.assert_close(fired.distance[0, 1, 1], torch.tensor(3 * 0.25))


def test_shares_add_up_to_one_and_a_dead_code_has_none():
    shares = book_of(bright_corners(1.0, 1.0, -1.0)).shares("quantizer")
    torch.testing.assert_close(shares, torch.tensor([10 / 12, 2 / 12, 0.0]))


def test_patches_show_the_places_nearest_to_the_code_first():
    book = book_of(bright_corners(0.6, -1.0, 1.0))
    patches = book.patches("quantizer", 1)
    assert patches.shape == (2, 3, 16, 16)
    assert patches[0].max() == 1.0, "the nearest comes first"
    assert abs(float(patches[1].max()) - 0.6) < 1e-6
    assert len(book.patches("quantizer", 2)) == 0
    assert len(book.patches("quantizer", 0, count=2)) == 2


def test_without_images_there_is_nothing_to_cut_from():
    book = book_of(torch.zeros(0, 3, 16, 16))
    assert book.shares("quantizer").sum() == 0
    assert len(book.patches("quantizer", 0)) == 0
    assert book.read(bright_corners(1.0))["quantizer"].codes.shape == (1, 2, 2)


def test_looking_leaves_a_discriminator_and_its_hooks_as_they_were():
    network = build_discriminator(tiny_config()).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images, labels = torch.rand(2, 3, 32, 32), torch.zeros(2, dtype=torch.long)
    found = fired_codes(network, lambda: network(images, labels))
    assert list(found) == list(quantizers(network)) == ["blocks.0.1", "blocks.2.1"]
    assert found["blocks.0.1"].codes.shape == (2, 16, 16)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(not part._forward_hooks for part in network.modules())


def test_a_map_has_the_colours_of_its_codes_and_darkens_the_others():
    image = Image.new("RGB", (8, 8), "white")
    index = torch.tensor([[0, 1], [1, 1]])
    drawn = draw_codes(image, index, size=80)
    assert drawn.size == (80, 80)
    corner = drawn.getpixel((2, 2))
    expected = tuple(255 * 0.55 + level * 0.45 for level in colour_of(0))
    assert all(abs(a - b) <= 1.5 for a, b in zip(corner, expected, strict=True))
    only = draw_codes(image, index, code=1, size=80)
    assert only.getpixel((2, 2))[0] < 100
    assert only.getpixel((78, 78)) == (255, 255, 255)


def test_a_fine_map_has_no_numbers():
    index = torch.zeros(64, 64, dtype=torch.long)
    drawn = draw_codes(Image.new("RGB", (64, 64)), index, size=128)
    assert len(drawn.getcolors()) == 1
