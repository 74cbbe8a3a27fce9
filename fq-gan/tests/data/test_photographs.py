"""Folders without classes, CelebA's crop, LSUN's databases (a stand-in has lmdb's interface)."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fqgan.data.folders import read_celeba, read_lsun, read_photographs


def picture(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class StandInDatabase:
    def __init__(self, table):
        self.table = table

    def begin(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def get(self, key):
        return self.table[key]

    def cursor(self):
        return sorted(self.table.items())


@pytest.fixture
def lsun(tmp_path, monkeypatch):
    sizes = {b"b": (40, 30), b"a": (24, 32), b"c": (10, 12)}
    table = {key: encoded(picture(*size)) for key, size in sizes.items()}
    (tmp_path / "data.mdb").write_bytes(b"")
    module = SimpleNamespace(open=lambda *_, **__: StandInDatabase(table))
    monkeypatch.setitem(sys.modules, "lmdb", module)
    return tmp_path


def test_a_folder_of_any_shape_has_one_class(image_folder):
    picture(16, 16).save(image_folder / "alone.png")
    images = read_photographs(image_folder, resolution=8)
    assert len(images) == 7
    assert images.entries[0] == "alone.png"
    assert images.class_names == ["0"]
    assert images.read(torch.arange(7)).shape == (7, 3, 8, 8)


def test_images_of_the_right_size_are_left_as_they_are(tmp_path):
    image = picture(8, 8)
    image.save(tmp_path / "a.png")
    pixels = read_photographs(tmp_path, resolution=8).read(torch.tensor([0]))[0]
    np.testing.assert_array_equal(pixels.permute(1, 2, 0), np.asarray(image))


def test_what_is_no_folder_of_images_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        read_photographs(tmp_path / "none", resolution=8)
    with pytest.raises(ValueError, match="holds no image"):
        read_photographs(tmp_path, resolution=8)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"notes\.txt is not an image file"):
        read_photographs(tmp_path, resolution=8)


def test_celeba_is_cut_around_the_face(tmp_path):
    image = picture(218, 178)
    image.save(tmp_path / "000001.png")
    pixels = read_celeba(tmp_path).read(torch.tensor([0]))[0]
    np.testing.assert_array_equal(pixels.permute(1, 2, 0), np.asarray(image)[57:185, 25:153])
    picture(16, 16).save(tmp_path / "000002.png")
    with pytest.raises(ValueError, match="CelebA's aligned images have"):
        read_celeba(tmp_path).read(torch.tensor([1]))


def test_lsun_is_read_in_the_order_of_its_keys(lsun):
    images = read_lsun(lsun, resolution=8)
    assert [bytes.fromhex(entry) for entry in images.entries] == [b"a", b"b", b"c"]
    assert images.read(torch.arange(3)).shape == (3, 3, 8, 8)
    assert len(read_lsun(lsun, resolution=8, limit=2)) == 2


def test_wide_images_lie_between_black_bars(lsun):
    images = read_lsun(lsun, resolution=16, wide=True)
    assert len(images) == 2  # one is too small
    pixels = images.read(torch.arange(2))
    assert pixels[:, :, :2].sum() == pixels[:, :, -2:].sum() == 0
    assert pixels[:, :, 2].float().mean() > 50


def test_lsun_says_what_is_absent(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ImportError, match=r"needs the package lmdb: pip install 'fq-gan\[lsun\]'"):
        read_lsun(tmp_path, resolution=8)
    monkeypatch.setitem(sys.modules, "lmdb", SimpleNamespace())
    with pytest.raises(FileNotFoundError, match=r"has no data\.mdb"):
        read_lsun(tmp_path, resolution=8)
