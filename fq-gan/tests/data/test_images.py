"""Images of every kind, opened by one function."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fqgan.data.folders import read_folder, read_photographs
from fqgan.data.images import UNREADABLE, UPRIGHT, open_image
from fqgan.pictures import check_picture

GREY = 100


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def levels(content):
    return np.asarray(open_image(content))


def marked():
    """8 x 4 pixels, black but for a white block at the upper left."""
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:2, :2] = 255
    return Image.fromarray(pixels)


def with_orientation(image, orientation):
    exif = image.getexif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(kind, orientation):
    image = marked()
    # Stored as the camera held it: turning it upright must give the picture back.
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    stored = image if orientation == 1 else image.transpose(UPRIGHT[inverse])
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(stored, kind, exif=with_orientation(stored, orientation), **options)
    found = levels(content)
    assert found.shape == (4, 8, 3)
    assert found[:2, :2].mean() > 200
    assert found[2:, 4:].mean() < 50


def test_every_reader_turns_images_upright(tmp_path):
    (tmp_path / "cat").mkdir()
    stored = marked().transpose(UPRIGHT[8])
    path = tmp_path / "cat" / "a.png"
    stored.save(path, exif=with_orientation(stored, 6))
    first, zero = torch.tensor([0]), torch.tensor([0.0])
    for images in (
        read_folder(tmp_path, resolution=4, cache_dir=tmp_path / ".cache"),
        read_photographs(tmp_path, resolution=4),
    ):
        assert images.read(first, zero)[0, :, :2, :2].min() == 255
    assert check_picture(path).size == (8, 4)


def test_damaged_exif_data_turn_nothing():
    content = saved(marked(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff junk")
    assert levels(content).shape == (4, 8, 3)


def transparent(mode):
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (GREY, GREY, GREY, 255))
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_show_white_and_no_hidden_colour(mode):
    assert levels(saved(transparent(mode))).tolist() == [[[255] * 3, [GREY] * 3]]


def test_transparent_colours_of_palettes_and_keys_show_white():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, GREY, GREY, GREY])
    image.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        assert levels(saved(image, kind, transparency=0)).tolist() == [[[255] * 3, [GREY] * 3]]
    image = Image.fromarray(np.array([[0, GREY]], np.uint8))
    assert levels(saved(image, transparency=0)).tolist() == [[[255] * 3, [GREY] * 3]]


def test_half_transparent_pixels_are_mixed_with_white():
    content = saved(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))
    assert levels(content)[0, 0].tolist() == [127] * 3


def test_all_depths_and_colour_spaces_give_the_same_levels():
    wide = Image.fromarray(np.full((2, 2), GREY * 257, np.uint16))
    contents = [
        saved(wide),
        saved(wide, "TIFF"),
        saved(Image.new("L", (2, 2), GREY)),
        saved(Image.new("RGB", (2, 2), (GREY,) * 3).convert("CMYK"), "TIFF"),
        saved(Image.new("RGB", (2, 2), (GREY,) * 3).quantize(4)),
    ]
    for content in contents:
        assert np.abs(levels(content).astype(int) - GREY).max() <= 1


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    images = read_photographs(tmp_path, resolution=8)
    assert images.read(torch.tensor([0]))[0, :, 0, 0].tolist() == [255, 0, 0]


def test_what_is_no_image_raises_what_readers_expect():
    for content in (b"", b"junk", saved(marked())[:45]):
        with pytest.raises(UNREADABLE):
            open_image(content)
