"""Every preparation is checked, and running it again changes nothing."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from fqgan.data import prepare, prepare as dataset_tool, small_images as cifar
from fqgan.data.datasets import DataConfig, build_images
from fqgan.data.hdf5 import read_hdf5
from fqgan.data.prepare import unpack_imagenet
from fqgan.data.small_images import SourceFile
from fqgan.data.tfrecords import read_tfrecords, shuffled_order
from fqgan.data.toy import toy_images
from fqgan.metrics.distances import read_moments
from fqgan.runtime.files import digest


@pytest.fixture
def cifar_archive(tmp_path, monkeypatch):
    """A small archive in the official layout, with its own digest put in place of the real one."""
    official = cifar.ARCHIVES["cifar10"]
    folder = tmp_path / "source" / official.folder
    folder.mkdir(parents=True)
    for file in (*official.train, *official.test):
        content = {"data": np.zeros((10, 3072), np.uint8), "labels": list(range(10))}
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
    names = {"label_names": [str(n) for n in range(10)]}
    (folder / official.names_file).write_bytes(pickle.dumps(names, protocol=2))
    archive = tmp_path / "cifar.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(folder, official.folder)
    own = replace(official, md5=digest(archive, "md5"), url=archive.as_uri())
    monkeypatch.setitem(cifar.ARCHIVES, "cifar10", own)
    return archive


def test_cifar_is_unpacked_from_an_archive_at_hand(cifar_archive, tmp_path):
    out = tmp_path / "data"
    words = ["cifar10", "--data-dir", str(out), "--archive", str(cifar_archive)]
    prepare.main(words)
    assert len(cifar.read_cifar("cifar10", out)) == 50
    cifar_archive.unlink()
    prepare.main(words)  # nothing is left to do


def test_cifar_is_downloaded_checked_and_unpacked(cifar_archive, tmp_path):
    prepare.main(["cifar10", "--data-dir", str(tmp_path / "data")])
    assert len(cifar.read_cifar("cifar10", tmp_path / "data", "test")) == 10


def test_a_wrong_archive_is_refused(cifar_archive, tmp_path):
    cifar_archive.write_bytes(b"a login page")
    words = ["cifar10", "--data-dir", str(tmp_path / "data"), "--archive", str(cifar_archive)]
    with pytest.raises(ValueError, match="has md5"):
        prepare.main(words)
    assert not (tmp_path / "data").exists()


def test_a_zip_becomes_hdf5_once(image_zip, tmp_path, caplog):
    out = tmp_path / "out.hdf5"
    words = ["hdf5", "--out", str(out), "--data.source", "zip", "--data.path", str(image_zip)]
    words += ["--data.resolution", "8", "--chunk-size", "4", "--compression", "lzf"]
    prepare.main(words)
    written = out.stat().st_mtime_ns
    with h5py.File(out) as file:
        assert file["imgs"].shape == (6, 3, 8, 8)
        assert file["imgs"].compression == "lzf"
    prepare.main(words)
    assert out.stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="was made otherwise"):
        prepare.main([*words, "--legacy-truncation"])


def test_toy_images_become_hdf5(tmp_path):
    out = tmp_path / "toy.hdf5"
    prepare.main(["toy", "--out", str(out), "--toy-images", "30", "--resolution", "16"])
    images = read_hdf5(out)
    assert len(images) == 30
    assert images.class_names[0] == "circle"


def test_a_folder_is_checked_to_the_last_image(image_folder):
    prepare.main(["folder", "--path", str(image_folder)])
    (image_folder / "owl" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    with pytest.raises(ValueError, match=r"owl/cut\.jpg cannot be read"):
        prepare.main(["folder", "--path", str(image_folder)])


def test_imagenet_names_the_way_by_hand(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"image-net\.org.*--archive"):
        prepare.main(["imagenet", "--data-dir", str(tmp_path / "none")])


def test_moments_are_cached_and_written_for_the_authors_code(tmp_path, caplog):
    caplog.set_level("INFO")
    words = ["moments", "--data.source", "toy", "--data.toy-images", "40", "--features", "random"]
    words += ["--cache-dir", str(tmp_path / "cache"), "--out-dir", str(tmp_path)]
    prepare.main([*words, "--device", "cpu"])
    content = read_moments(tmp_path / "toy_inception_moments.npz")
    assert content.num_images == 40
    assert content.covariance.shape == (448, 448)
    assert "not comparable with published figures" in caplog.text
    assert len(list((tmp_path / "cache" / "statistics").iterdir())) == 1


def test_inception_weights_with_a_wrong_hash_are_refused(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"something else")
    words = ["inception", "--file", str(file), "--cache-dir", str(tmp_path / "cache")]
    with pytest.raises(ValueError, match="expected 6726825d"):
        prepare.main(words)
    assert not list((tmp_path / "cache").glob("*"))


def test_the_files_of_lpips_are_checked_and_kept_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FQGAN_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "vgg.pth"
    source.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    loaded = []
    monkeypatch.setattr(prepare, "load_lpips", lambda: loaded.append(True))
    monkeypatch.setattr(prepare, "LPIPS_FILES", {source.as_uri(): digest})
    prepare.main(["lpips"])
    assert (tmp_path / "cache" / "lpips" / "vgg.pth").read_bytes() == b"weights"
    assert loaded == [True]
    (tmp_path / "cache" / "lpips" / "vgg.pth").write_bytes(b"something else")
    with pytest.raises(ValueError, match="damaged or another version"):
        prepare.main(["lpips"])


def test_real_images_become_hdf5(tmp_path):
    archive = Path(os.environ.get("FQGAN_DATA", "none")) / "images" / "cifar10_jpeg.zip"
    if not archive.is_file():
        pytest.skip("FQGAN_DATA/images/cifar10_jpeg.zip is not there")
    out = tmp_path / "cifar.hdf5"
    words = ["hdf5", "--out", str(out), "--data.source", "zip", "--data.path", str(archive)]
    prepare.main([*words, "--data.limit", "500"])
    images = read_hdf5(out)
    assert len(images) == 500
    assert images.class_names[:2] == ["airplane", "automobile"]
    assert 100 < images.read(torch.arange(500)).float().mean() < 140


def test_an_unknown_kind_lists_those_there_are():
    with pytest.raises(ValueError, match="lists all, such as cifar10, cifar100, imagenet"):
        prepare.main(["emnist"])


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


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def packed(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            add(archive, name, content)
    return buffer.getvalue()


def test_classes_become_folders_and_a_second_run_passes_them_over(tmp_path):
    archive = tmp_path / "train.tar"
    inner = packed({"n00000001_1.JPEG": b"one", "n00000001_2.JPEG": b"two"})
    archive.write_bytes(packed({"n00000001.tar": inner, "n00000002.tar": packed({})}))
    assert unpack_imagenet(archive, tmp_path / "out") == 2
    assert (tmp_path / "out" / "n00000001" / "n00000001_2.JPEG").read_bytes() == b"two"
    (tmp_path / "out" / "n00000001" / "n00000001_2.JPEG").write_bytes(b"kept")
    assert unpack_imagenet(archive, tmp_path / "out") == 2
    assert (tmp_path / "out" / "n00000001" / "n00000001_2.JPEG").read_bytes() == b"kept"


@pytest.mark.parametrize("name", ["../n00000001_1.JPEG", "/n00000001_1.JPEG", "run.sh"])
def test_other_names_are_refused(tmp_path, name):
    archive = tmp_path / "train.tar"
    archive.write_bytes(packed({"n00000001.tar": packed({name: b"x"})}))
    with pytest.raises(ValueError, match="which is no image"):
        unpack_imagenet(archive, tmp_path / "out")
    assert not (tmp_path / "out" / "n00000001").exists()
    archive.write_bytes(packed({name: b"x"}))
    with pytest.raises(ValueError, match="give ILSVRC2012_img_train"):
        unpack_imagenet(archive, tmp_path / "out")


def test_a_broken_archive_is_named(tmp_path):
    archive = tmp_path / "train.tar"
    archive.write_bytes(b"x" * 600)
    with pytest.raises(ValueError, match="not a whole tar archive"):
        unpack_imagenet(archive, tmp_path / "out")
