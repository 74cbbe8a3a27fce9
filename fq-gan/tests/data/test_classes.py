"""What classes a folder or zip holds: one rule for both, said with counts, or refused."""

from __future__ import annotations

import json
import logging
import zipfile

import pytest
import torch
from PIL import Image

from fqgan.data.folders import read_folder, read_photographs, read_zip
from fqgan.data.prepare import main


def grow(root, *names):
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number % 256).save(root / name)
    return root


def packed(root, path, base):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, file.relative_to(base).as_posix())
    return path


@pytest.fixture
def opened(tmp_path):
    """Opens a tree as a folder, as a zip of its content and as a zip of the folder itself."""

    def both(root, **options):
        packed(root, tmp_path / "content.zip", root)
        packed(root, tmp_path / "folder.zip", root.parent)
        yield lambda: read_folder(root, resolution=8, cache_dir=tmp_path / "cache", **options)
        for name in ("content.zip", "folder.zip"):
            yield lambda name=name: read_zip(tmp_path / name, resolution=8, **options)

    return both


TREE = ("cat/0.png", "cat/1.png", "dog/2.png", "dog/puppies/3.png", "eel/4.png")


def test_a_folder_and_zips_of_it_give_the_same_classes_with_counts(tmp_path, opened, caplog):
    root = grow(tmp_path / "photos", *TREE)
    with caplog.at_level(logging.INFO):
        for images in (read() for read in opened(root)):
            assert images.class_names == ["cat", "dog", "eel"]
            assert images.labels.tolist() == [0, 0, 1, 1, 2]
            assert images.read(torch.arange(5))[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert caplog.text.count("5 images, 3 classes: cat 2, dog 2, eel 1") == 3


def test_a_class_folder_that_holds_only_folders_is_refused(tmp_path, opened):
    root = grow(tmp_path / "root", "a/cat/0.png", "a/dog/1.png", "b/cat/2.png")
    for read in opened(root):
        with pytest.raises(ValueError, match=r"class folder .*a holds only folders: cat, dog; if"):
            read()
    root = grow(tmp_path / "other", "train/cat/0.png", "train/dog/1.png")
    with pytest.raises(ValueError, match=r"give --data\.path .*/other/train, else"):
        read_folder(root, resolution=8, cache_dir=tmp_path / "cache")


def test_an_image_outside_of_the_classes_is_refused_or_passed_over(tmp_path, opened):
    root = grow(tmp_path / "root", "cat/0.png", "cat/1.png", "2.png")
    for read in [*opened(root)][:2]:
        with pytest.raises(ValueError, match=r"2\.png lies outside of the class folders"):
            read()
    for read in [*opened(root, skip_other_files=True)][:2]:
        assert read().entries == ["cat/0.png", "cat/1.png"]


def test_an_empty_class_is_refused(tmp_path, opened):
    root = grow(tmp_path / "root", "cat/0.png")
    (root / "emu").mkdir()
    for read in opened(root):
        with pytest.raises(ValueError, match="emu holds no image"):
            read()


def described(root, labels):
    grow(root, "00000/img0.png", "00000/img1.png", "00001/img2.png")
    (root / "dataset.json").write_text(json.dumps(labels))
    return root


def test_the_labels_of_an_nvlabs_data_set_are_read(tmp_path, opened):
    labels = [["00000/img1.png", 1], ["00000/img0.png", 0], ["00001/img2.png", 1]]
    for images in (read() for read in opened(described(tmp_path / "set", {"labels": labels}))):
        assert images.class_names == ["0", "1"]
        assert images.labels.tolist() == [0, 1, 1]
        assert images.read(torch.arange(3))[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert len(read_photographs(tmp_path / "set", resolution=8)) == 3


def test_an_nvlabs_data_set_without_labels_has_one_class(tmp_path, opened):
    for images in (read() for read in opened(described(tmp_path / "set", {"labels": None}))):
        assert images.labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "is no list of labels"),
        ({"labels": [["00000/img0.png", 0]]}, r"has no label for 00000/img1\.png and 1 others"),
        ({"labels": [[f"{i}.png", 0] for i in range(3)]}, "has no label for"),
        ({"labels": [["00000/img0.png", "cat"]]}, "'cat' is no number of a class"),
    ],
)
def test_a_bad_list_of_labels_is_named(tmp_path, opened, labels, message):
    for read in opened(described(tmp_path / "set", labels)):
        with pytest.raises(ValueError, match=message):
            read()


def test_changed_labels_are_seen_despite_the_cache(tmp_path):
    names = ("00000/img0.png", "00000/img1.png", "00001/img2.png")
    for labels in ([0, 1, 1], [1, 1, 0]):
        root = described(
            tmp_path / "set", {"labels": [list(pair) for pair in zip(names, labels, strict=True)]}
        )
        images = read_folder(root, resolution=8, cache_dir=tmp_path / "cache")
        assert images.labels.tolist() == labels


def test_hidden_files_stop_no_reader(tmp_path, opened):
    root = grow(tmp_path / "root", "cat/0.png")
    for name in ("cat/._0.png", "._a.jpg", "__MACOSX/cat/._0.png", "cat/.thumbs/1.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"junk")
    for read in opened(root):
        assert read().entries == ["cat/0.png"]
    assert read_photographs(root, resolution=8).entries == ["cat/0.png"]


def test_preparation_lists_every_file_that_cannot_be_read(tmp_path):
    root = grow(tmp_path / "root", *(f"cat/{number:04d}.png" for number in range(600)))
    bad = ["cat/0003.png", "cat/0300.png", "cat/0599.png"]
    for name in bad:
        (root / name).write_bytes(b"junk")
    source = ["--data.source", "folder", "--data.path", str(root)]
    arguments = {
        "folder": ["--path", str(root)],
        "hdf5": ["--out", str(tmp_path / "a.hdf5"), "--data.resolution", "8", *source],
        "tfrecords": ["--out", str(tmp_path / "records"), "--data.resolution", "8", *source],
    }
    for verb, options in arguments.items():
        with pytest.raises(ValueError, match="3 files cannot be read as images") as caught:
            main([verb, *options])
        assert all(name in str(caught.value) for name in bad)
    assert not (tmp_path / "a.hdf5").exists()


def test_options_that_errors_name_are_those_of_the_command(tmp_path):
    root = grow(tmp_path / "root", "cat/0.png")
    (root / "cat" / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="give --skip-other-files"):
        main(["folder", "--path", str(root)])


def test_an_encrypted_image_is_named(tmp_path):
    path = packed(grow(tmp_path / "root", "cat/0.png"), tmp_path / "a.zip", tmp_path / "root")
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := content.find(mark, start + 1)) >= 0:
            content[start + place] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cat/0\.png cannot be read as an image .*encrypted"):
        read_zip(path, resolution=8).read(torch.tensor([0]))
