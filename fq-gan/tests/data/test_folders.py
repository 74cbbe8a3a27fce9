"""Folders and zip archives of CLASS/IMAGE."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fqgan.data.batches import one_pass
from fqgan.data.folders import read_celeba, read_folder, read_lsun, read_photographs, read_zip
from fqgan.data.images import (
    ArrayImages,
    Subset,
    UnreadableImagesError,
    check_classes,
    decode_all,
    fingerprint,
    in_memory,
    normalize,
    square,
    to_bytes,
    to_rgb,
)

# Pillow's bilinear filter differs by a level between versions.
RESIZE_TOLERANCE = 1e-2


def test_classes_are_numbered_alphabetically(image_folder):
    images = read_folder(image_folder, resolution=8)
    assert images.class_names == ["cat", "dog", "owl"]
    assert images.labels.tolist() == [0, 0, 1, 1, 1, 2]
    assert images.read(torch.tensor([5, 0])).shape == (2, 3, 8, 8)


def test_a_zip_gives_the_same_images(image_folder, image_zip):
    every = torch.arange(6)
    from_zip = read_zip(image_zip, resolution=8)
    assert torch.equal(from_zip.read(every), read_folder(image_folder, resolution=8).read(every))
    assert from_zip.class_names == ["cat", "dog", "owl"]
    assert read_zip(image_zip, resolution=8, split="test").class_names == ["dog"]


def test_a_zip_without_folders_is_told_what_reads_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        archive.writestr("a.png", b"")
    with pytest.raises(ValueError, match=r"give --data\.source shards"):
        read_zip(tmp_path / "flat.zip", resolution=8)


def test_a_missing_split_lists_those_there_are(image_zip):
    with pytest.raises(ValueError, match=r"no validation/ folder, it has test, train"):
        read_zip(image_zip, resolution=8, split="validation")


def test_a_new_image_is_seen_despite_the_cache(image_folder, tmp_path):
    cache = tmp_path / "cache"
    assert len(read_folder(image_folder, resolution=8, cache_dir=cache)) == 6
    [file] = cache.rglob("*.json")
    marked = json.loads(file.read_text())
    marked["entries"][0] = "cat/marker.png"
    file.write_text(json.dumps(marked))
    cached = read_folder(image_folder, resolution=8, cache_dir=cache)
    assert cached.entries[0] == "cat/marker.png", "the list must come from the cache"
    Image.new("RGB", (9, 9)).save(image_folder / "owl" / "new.png")
    again = read_folder(image_folder, resolution=8, cache_dir=cache)
    assert len(again) == 7
    assert again.entries[0] == "cat/0.png"


def test_a_damaged_or_forbidden_cache_only_costs_time(image_folder, tmp_path):
    cache = tmp_path / "cache"
    read_folder(image_folder, resolution=8, cache_dir=cache)
    [file] = cache.rglob("*.json")
    file.write_text("{")
    assert len(read_folder(image_folder, resolution=8, cache_dir=cache)) == 6
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert len(read_folder(image_folder, resolution=8, cache_dir=blocked)) == 6


def test_several_readers_may_fill_the_cache_at_once(image_folder, tmp_path):
    def read(_):
        return len(read_folder(image_folder, resolution=8, cache_dir=tmp_path / "cache"))

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(read, range(8))) == {6}


def test_a_file_that_is_no_image_is_named_or_passed_over(image_folder):
    (image_folder / "dog" / "notes.txt").write_text("hello")
    (image_folder / "dog" / ".DS_Store").write_text("hidden files never matter")
    with pytest.raises(ValueError, match=r"dog/notes\.txt is not an image file"):
        read_folder(image_folder, resolution=8)
    assert len(read_folder(image_folder, resolution=8, skip_other_files=True)) == 6


def test_an_empty_class_is_named(image_folder):
    (image_folder / "emu").mkdir()
    with pytest.raises(ValueError, match=r"class folder .*emu holds no image"):
        read_folder(image_folder, resolution=8)


def test_a_folder_without_classes_or_no_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="no sub-folders"):
        read_folder(tmp_path, resolution=8, cache_dir=tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        read_folder(tmp_path / "nowhere", resolution=8)


def test_bad_archives_are_named(tmp_path):
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match="not a whole zip archive"):
        read_zip(broken, resolution=8)
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("cat/readme.md", "x")
    with pytest.raises(ValueError, match=r"cat/readme\.md is not an image"):
        read_zip(other, resolution=8)


@pytest.mark.golden
def test_images_and_labels_are_those_of_the_authors_loader(golden):
    folder = golden / "biggan" / "dataprep"
    if not (folder / "expected.npz").exists():
        pytest.skip("no recorded image folder")
    with np.load(folder / "expected.npz") as expected:
        floats, labels = expected["float_images"], expected["labels"]
    roots = [path for path in (folder / "data").iterdir() if path.is_dir()]
    images = read_folder(roots[0], resolution=floats.shape[-1])
    assert images.labels.tolist() == labels.tolist()
    ours = normalize(images.read(torch.arange(len(images)))).numpy()
    assert np.abs(ours - floats).max() <= RESIZE_TOLERANCE


@pytest.mark.golden
def test_the_authors_list_of_files_is_read(golden):
    found = sorted((golden / "biggan" / "dataprep").glob("*_imgs.npz"))
    if not found:
        pytest.skip("no recorded list of files")
    for path in found:
        listed = read_folder(path, resolution=16)
        [root] = {path.parent / Path(entry).parent.parent for entry in listed.entries}
        scanned = read_folder(root, resolution=16)
        assert listed.labels.tolist() == scanned.labels.tolist()
        assert listed.class_names == scanned.class_names
        every = torch.arange(len(scanned))
        assert torch.equal(listed.read(every), scanned.read(every))


def test_a_bad_list_of_files_is_named(tmp_path):
    (tmp_path / "I32_imgs.npz").write_bytes(b"junk")
    with pytest.raises(ValueError, match="is no list of images"):
        read_folder(tmp_path / "I32_imgs.npz", resolution=8)


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


def test_all_files_that_are_no_images_are_named_by_every_reader_of_a_whole_set(image_folder):
    for place in ("cat/broken.png", "owl/empty.png"):
        (image_folder / place).write_bytes(b"not a picture" if "broken" in place else b"")
    images = read_folder(image_folder, resolution=8)
    for read in (
        lambda: in_memory(images, batch_size=1),
        lambda: list(one_pass(images, 1)),
        lambda: decode_all(images, batch_size=1),
    ):
        with pytest.raises(UnreadableImagesError, match="2 files cannot be read") as error:
            read()
        assert [name for name, _ in error.value.failures] == ["cat/broken.png", "owl/empty.png"]


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


def test_the_fingerprint_follows_every_one_of_many_images():
    images = some_images(2000, resolution=2)
    before = fingerprint(images)
    for index in (1, 777, 1998):
        images.pixels[index, 0, 0, 0] += 1
        assert fingerprint(images) != before
        images.pixels[index, 0, 0, 0] -= 1
    assert fingerprint(images) == before


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
