"""Folders and zip archives of CLASS/IMAGE."""

import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fqgan.data.folders import read_folder, read_zip
from fqgan.data.images import normalize

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
