"""Images in memory and in files give bytes of one size."""

import numpy as np
import pytest
import torch
from PIL import Image

from fqgan.data.folders import read_folder
from fqgan.data.images import (
    ArrayImages,
    Subset,
    check_classes,
    fingerprint,
    in_memory,
    normalize,
    square,
    to_bytes,
    to_rgb,
)


def some_images(count: int = 6, resolution: int = 8) -> ArrayImages:
    pixels = torch.randint(0, 256, (count, 3, resolution, resolution), dtype=torch.uint8)
    return ArrayImages(pixels, torch.arange(count) % 2, ["a", "b"], "some images")


def test_every_level_survives_the_way_to_floats_and_back():
    levels = torch.arange(256, dtype=torch.uint8)
    floats = normalize(levels)
    assert floats[0] == -1
    assert floats[255] == 1
    assert torch.equal(to_bytes(floats), levels)


def test_truncation_lowers_exactly_the_levels_1_to_63():
    levels = torch.arange(256, dtype=torch.uint8)
    expected = levels.clone()
    expected[1:64] -= 1
    assert torch.equal(to_bytes(normalize(levels), truncate=True), expected)


def test_the_square_lies_where_the_offset_says():
    wide = np.zeros((4, 10, 3), np.uint8)
    wide[:, :4], wide[:, 6:] = 10, 200
    image = Image.fromarray(wide)
    assert (square(image, 4, 0.0) == 10).all()
    assert (square(image, 4, 1.0) == 200).all()
    assert square(image, 2).shape == (2, 2, 3)


def test_a_file_that_is_no_image_is_named_when_read(image_folder):
    (image_folder / "cat" / "broken.png").write_bytes(b"not a picture")
    images = read_folder(image_folder, resolution=8)
    with pytest.raises(ValueError, match=r"cat/broken\.png cannot be read as an image"):
        in_memory(images)


def test_reading_into_memory_changes_nothing(image_folder):
    images = read_folder(image_folder, resolution=8)
    loaded = in_memory(images, batch_size=2)
    index = torch.tensor([4, 0, 4])
    assert torch.equal(loaded.read(index), images.read(index))
    assert loaded.class_names == ["cat", "dog", "owl"]


def test_a_subset_keeps_classes_and_order():
    images = some_images()
    part = Subset(images, torch.tensor([5, 1]))
    assert len(part) == 2
    assert part.labels.tolist() == [1, 1]
    assert torch.equal(part.read(torch.tensor([0])), images.pixels[5:6])


def test_the_fingerprint_follows_the_content():
    images = some_images()
    same = ArrayImages(images.pixels.clone(), images.labels, ["a", "b"], "elsewhere")
    other = ArrayImages(255 - images.pixels, images.labels, ["a", "b"], "some images")
    assert fingerprint(images) == fingerprint(same)
    assert fingerprint(images) != fingerprint(other)


def test_labels_without_a_class_and_classes_without_an_image_are_refused():
    with pytest.raises(ValueError, match="class 'b' holds no image"):
        check_classes(torch.tensor([0, 2]), ["a", "b", "c"], "x")
    with pytest.raises(ValueError, match="labels run from 0 to 2"):
        check_classes(torch.tensor([0, 2]), ["a", "b"], "x")
    with pytest.raises(ValueError, match="holds no image"):
        check_classes(torch.tensor([], dtype=torch.int64), [], "x")


def test_pixels_of_another_type_or_shape_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        ArrayImages(torch.zeros(2, 3, 4, 4, dtype=torch.int64), torch.zeros(2), ["a"], "x")
    with pytest.raises(ValueError, match="square"):
        ArrayImages(torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.zeros(2), ["a"], "x")


def test_sixteen_bits_of_grey_become_eight():
    image = Image.fromarray(np.array([[0, 257, 65535]], dtype=np.uint16))
    assert np.asarray(to_rgb(image)).tolist() == [[[0] * 3, [1] * 3, [255] * 3]]
    with pytest.raises(ValueError, match="mode F"):
        to_rgb(Image.fromarray(np.zeros((2, 2), np.float32)))
