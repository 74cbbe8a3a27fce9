"""The verbs of ``fqgan prepare`` for TFRecords."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from fqgan.data import prepare, prepare as dataset_tool
from fqgan.data.datasets import DataConfig, build_images
from fqgan.data.small_images import SourceFile
from fqgan.data.tfrecords import read_tfrecords, shuffled_order
from fqgan.data.toy import toy_images

TOY = ["--data.source", "toy", "--data.toy-images", "12", "--data.resolution", "16"]


@pytest.fixture
def records(tmp_path):
    prepare.main(["tfrecords", "--out", str(tmp_path / "toy"), *TOY])
    return tmp_path / "toy"


def test_any_source_becomes_tfrecords_in_the_authors_order(records):
    images = build_images(DataConfig("tfrecords", str(records), resolution=16))
    original, order = toy_images(12, resolution=16), torch.from_numpy(shuffled_order(12))
    assert torch.equal(images.read(torch.arange(12)), original.read(order))
    assert torch.equal(images.labels, original.labels[order])
    small = build_images(DataConfig("tfrecords", str(records), resolution=4))
    assert small.resolution == 4


def test_running_it_again_changes_nothing(records, tmp_path):
    before = {file.name: file.stat().st_mtime_ns for file in records.iterdir()}
    prepare.main(["tfrecords", "--out", str(records), *TOY])
    assert before == {file.name: file.stat().st_mtime_ns for file in records.iterdir()}
    with pytest.raises(ValueError, match="exists and is not empty"):
        prepare.main(["tfrecords", "--out", str(records), *TOY, "--no-shuffle"])


def test_a_folder_without_classes_has_no_labels(image_folder, tmp_path):
    words = ["--data.source", "images", "--data.path", str(image_folder), "--num-images", "5"]
    prepare.main(["tfrecords", "--out", str(tmp_path / "set"), *words, "--data.resolution", "8"])
    images = read_tfrecords(tmp_path / "set")
    assert len(images) == 5
    assert images.label_vectors is None


def test_display_writes_a_sheet(records, tmp_path):
    out = tmp_path / "sheets" / "sheet.png"
    words = ["--path", str(records), "--out", str(out), "--num-images", "10", "--columns", "4"]
    prepare.main(["display", *words])
    with Image.open(out) as sheet:
        assert sheet.size == (64, 48)
        tile = np.asarray(sheet)[16:32, :16]
    expected = read_tfrecords(records).read(torch.tensor([4]))[0].permute(1, 2, 0)
    np.testing.assert_array_equal(tile, expected)
    with pytest.raises(ValueError, match=r"--first 12: .* has 12 images"):
        prepare.main(["display", *words, "--first", "12"])


def test_extract_writes_what_create_reads(records, tmp_path):
    out = tmp_path / "images"
    prepare.main(["extract", "--path", str(records), "--out", str(out), "--num-images", "3"])
    again = build_images(DataConfig("images", str(out), resolution=16, skip_other_files=True))
    index = torch.arange(3)
    assert torch.equal(again.read(index), read_tfrecords(records).read(index))
    assert np.load(out / "labels.npy").shape == (3, 10)


def test_compare_counts_what_is_identical(records, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    prepare.main(["compare", "--first", str(records), "--second", str(records)])
    assert "16 pixels: 12 and 12 images, 12 identical" in caplog.text
    assert "labels: identical" in caplog.text
    caplog.clear()
    other = tmp_path / "other"
    changed = [*TOY[:-1], "8", "--no-labels", "--num-images", "2"]
    prepare.main(["tfrecords", "--out", str(other), *changed])
    prepare.main(["compare", "--first", str(records), "--second", str(other)])
    assert f"16 pixels: {other} has none" in caplog.text
    assert "8 pixels: 12 and 2 images, 0 identical" in caplog.text
    assert "labels: different" in caplog.text


def test_digits_are_fetched_and_checked(tmp_path, monkeypatch):
    files = (SourceFile((tmp_path / "train_32x32.mat").as_uri(), "0" * 32),)
    monkeypatch.setitem(dataset_tool.FILES, "svhn", files)
    (tmp_path / "train_32x32.mat").write_bytes(b"a login page")
    with pytest.raises(OSError, match="has md5"):
        prepare.main(["svhn", "--data-dir", str(tmp_path / "data")])
