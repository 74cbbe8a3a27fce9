"""Every preparation is checked, and running it again changes nothing."""

import hashlib
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from fqgan.data import prepare, small_images as cifar
from fqgan.data.hdf5 import read_hdf5
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
    with pytest.raises(ValueError, match="choose one of cifar10, cifar100, imagenet"):
        prepare.main(["emnist"])
