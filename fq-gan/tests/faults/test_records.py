"""Corrupt, short, foreign and oddly named records: named, counted or passed over; never a shift."""

import json
import shutil

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from ugatit_runs import tiny_ugatit

from fqgan.data.folders import read_folder
from fqgan.data.hdf5 import read_hdf5, write_hdf5
from fqgan.data.images import in_memory
from fqgan.data.tfrecords import read_tfrecords, write_tfrecords
from fqgan.data.toy import toy_images
from fqgan.data.unpaired import UnpairedConfig, build_domains
from fqgan.runtime.logs import read_metrics
from fqgan.ugatit.train import train as train_ugatit

CLASSES = {"Ångström": 3, "a b'c": 2, "日本": 2, "zz\u00a0top": 1}


def level_of(label: int, number: int) -> int:
    return 20 + 60 * label + 10 * number


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Classes and files of odd names; every image has one level that tells which it is."""
    monkeypatch.setenv("FQGAN_CACHE", str(tmp_path / "cache"))
    for label, (name, count) in enumerate(sorted(CLASSES.items())):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(count):
            image = Image.new("RGB", (9, 9), (level_of(label, number),) * 3)
            image.save(tmp_path / "data" / name / f"é {number}.png")
    return tmp_path / "data"


def assert_images_keep_their_labels(images):
    pixels, labels = in_memory(images).pixels[:, 0, 0, 0].tolist(), images.labels.tolist()
    expected = [
        (level_of(label, number), label)
        for label, (_, count) in enumerate(sorted(CLASSES.items()))
        for number in range(count)
    ]
    assert list(zip(pixels, labels, strict=True)) == expected
    assert images.class_names == sorted(CLASSES)


def test_names_of_any_script_and_with_spaces_are_read(folder):
    assert_images_keep_their_labels(read_folder(folder, resolution=9))


def test_other_files_are_passed_over_without_a_shift(folder):
    for name in CLASSES:
        (folder / name / "a first.txt").write_text("not an image\r\n")
        (folder / name / "é 0.json").write_text("{}")
    with pytest.raises(ValueError, match="is not an image file"):
        read_folder(folder, resolution=9)
    assert_images_keep_their_labels(read_folder(folder, resolution=9, skip_other_files=True))


def test_a_damaged_image_is_fatal_and_named_and_those_around_it_are_right(folder):
    broken = folder / "a b'c" / "é 0.png"
    broken.write_bytes(broken.read_bytes()[:40])
    images = read_folder(folder, resolution=9)
    with pytest.raises(ValueError, match=r"a b.c/é 0\.png cannot be read as an image"):
        in_memory(images)
    place = images.entries.index("a b'c/é 0.png")
    rest = torch.tensor([i for i in range(len(images)) if i != place])
    label = images.labels[rest[-1]].item()
    assert images.read(rest)[-1, 0, 0, 0] == level_of(label, CLASSES[images.class_names[label]] - 1)


def test_a_short_hdf5_is_fatal_before_an_index_could_shift(tmp_path):
    path = write_hdf5(toy_images(20), tmp_path / "toy.hdf5", chunk_size=5)
    with h5py.File(path, "r+") as file:
        labels = file["labels"][:]
        del file["labels"]
        file["labels"] = labels[:-1]
    with pytest.raises(ValueError, match="20 images and 19 labels"):
        read_hdf5(path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ValueError, match="not a whole HDF5 file"):
        read_hdf5(path)


def test_a_damaged_record_is_named_by_its_number(tmp_path):
    images = toy_images(20, resolution=16)
    folder = write_tfrecords(images, tmp_path / "toy")
    path = folder / "toy-r04.tfrecords"
    content = bytearray(path.read_bytes())
    size = len(content) // 20
    content[7 * size + size // 2] ^= 1
    path.write_bytes(content)
    damaged = read_tfrecords(folder)
    with pytest.raises(ValueError, match=r"toy-r04\.tfrecords: record 7 is damaged"):
        damaged.read(torch.tensor([7]))
    around = torch.tensor([6, 8])
    assert torch.equal(damaged.read(around), images.read(around))
    shutil.rmtree(folder)
    folder = write_tfrecords(images, tmp_path / "toy")
    labels = next(folder.glob("*.labels"))
    with labels.open("wb") as file:
        np.save(file, np.zeros((19, 10), np.float32))
    with pytest.raises(ValueError, match="19"):
        read_tfrecords(folder)


def test_an_unpaired_set_counts_what_is_no_image_and_names_what_is_damaged(tmp_path, caplog):
    for name in ("trainA", "trainB", "testA", "testB"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("RGB", (20, 20), (number,) * 3).save(tmp_path / name / f"ü{number}.png")
    (tmp_path / "trainA" / "readme.txt").write_text("\r\n")
    config = UnpairedConfig(path=str(tmp_path), resolution=16)
    domains = build_domains(config, "train")
    assert "1 files are no images and are passed over" in caplog.text
    assert domains.a.read(torch.arange(3))[:, 0, 0, 0].tolist() == [0, 1, 2]
    (tmp_path / "trainB" / "ü1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"ü1\.png cannot be read as an image"):
        build_domains(config, "train").b.read(torch.arange(3))


def test_lines_that_a_crash_left_in_the_metrics_do_not_stop_the_readers(tmp_path):
    train_ugatit(tiny_ugatit(tmp_path / "run", max_steps=1, log_every=1))
    path = tmp_path / "run" / "metrics.jsonl"
    rows = read_metrics(tmp_path / "run")
    path.write_text(path.read_text() + json.dumps({"step": 2})[:-3])
    assert read_metrics(tmp_path / "run") == rows
