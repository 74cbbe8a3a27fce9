"""Any picture can be translated: a path, the bytes of an upload, an open stream."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from ugatit_runs import tiny_weights

from fqgan.data.images import to_bytes
from fqgan.ugatit.translation import Translator, load_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return load_weights(tiny_weights(tmp_path_factory.mktemp("weights") / "model"))


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    return load_weights(tiny_weights(tmp_path_factory.mktemp("weights") / "model", light=True))


def png(mode="RGB", size=(30, 20)):
    stream = io.BytesIO()
    random = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(random).convert(mode).save(stream, "TIFF" if mode == "CMYK" else "PNG")
    return stream.getvalue()


def test_a_path_bytes_and_a_stream_give_the_same_picture(weights, tmp_path):
    content = png()
    (tmp_path / "photo.jpg").write_bytes(content)  # PNG bytes under a .jpg name
    translator = Translator(weights)
    pictures = [
        np.asarray(translator(source))
        for source in (tmp_path / "photo.jpg", content, io.BytesIO(content))
    ]
    assert pictures[0].shape == (24, 24, 3)
    for other in pictures[1:]:
        assert np.array_equal(pictures[0], other)


def test_the_direction_chooses_the_generator(weights):
    translator, content = Translator(weights), png()
    image = translator.read(content)
    for direction, generator in (("a2b", weights.a_to_b), ("b2a", weights.b_to_a)):
        with torch.no_grad():
            expected = to_bytes(generator(image).images[0]).permute(1, 2, 0).numpy()
        assert np.array_equal(np.asarray(translator(content, direction)), expected)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA"])
def test_pictures_of_other_modes_are_translated(weights, mode):
    assert Translator(weights)(png(mode)).mode == "RGB"


def test_a_light_generator_takes_another_size_and_a_full_one_says_why_not(weights, light):
    assert Translator(light, size=32)(png()).size == (32, 32)
    with pytest.raises(ValueError, match="--size 32: these weights translate 24 pixels only"):
        Translator(weights, size=32)
    with pytest.raises(ValueError, match="--size must be a multiple of 4"):
        Translator(light, size=30)


def test_the_middle_is_cropped_if_asked(weights):
    image = Image.new("RGB", (60, 20))
    image.paste((255, 0, 0), (0, 0, 15, 20))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    stretched, cropped = (
        Translator(weights, shape=shape).read(stream.getvalue()) for shape in ("stretch", "crop")
    )
    assert stretched.max() > 0.99
    assert cropped.max() < -0.99


def test_what_is_no_picture_is_named(weights, tmp_path):
    translator = Translator(weights)
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg does not exist"):
        translator.read(tmp_path / "absent.jpg")
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    with pytest.raises(ValueError, match=r"cut\.jpg cannot be read as an image"):
        translator.read(tmp_path / "cut.jpg")
    with pytest.raises(ValueError, match="the picture cannot be read as an image"):
        translator.read(b"")
