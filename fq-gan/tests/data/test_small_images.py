"""CIFAR files are read without running what a pickle may hold."""

from __future__ import annotations

import gzip
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from scipy.io import savemat

from fqgan.data.small_images import (
    ARCHIVES,
    StackedDigits,
    held_out_mask,
    read_cifar,
    read_mnist,
    read_svhn,
)


def write_cifar(root, name, per_file=20):
    """A small data set in the official layout."""
    archive = ARCHIVES[name]
    folder = root / archive.folder
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for file in (*archive.train, *archive.test):
        content = {
            "data": random.integers(0, 256, (per_file, 3072), dtype=np.uint8),
            archive.label_key: [n % 10 for n in range(per_file)],
        }
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
    names = {archive.names_key: [f"class{n}" for n in range(10)]}
    (folder / archive.names_file).write_bytes(pickle.dumps(names, protocol=2))
    return folder


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_official_layout_is_read(tmp_path, name):
    folder = write_cifar(tmp_path, name)
    images = read_cifar(name, tmp_path)
    first = pickle.loads((folder / ARCHIVES[name].train[0]).read_bytes())
    assert len(images) == 20 * len(ARCHIVES[name].train)
    assert np.array_equal(images.pixels[3].numpy(), first["data"][3].reshape(3, 32, 32))
    assert images.class_names[9] == "class9"
    assert len(read_cifar(name, folder, "test")) == 20


def test_python_2_pickles_are_read(tmp_path):
    folder = write_cifar(tmp_path, "cifar10")
    # As Python 2 wrote it: byte strings for keys, numpy's old module name.
    rows = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
    new = pickle.dumps({"data": rows, "labels": [0, 1]}, protocol=2)
    old = new.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    (folder / "test_batch").write_bytes(old)
    assert np.array_equal(
        read_cifar("cifar10", tmp_path, "test").pixels.numpy().reshape(2, -1), rows
    )


def test_validation_takes_the_same_share_of_every_class(tmp_path):
    write_cifar(tmp_path, "cifar10")
    train = read_cifar("cifar10", tmp_path, "train", validation_fraction=0.2)
    held_out = read_cifar("cifar10", tmp_path, "validation", validation_fraction=0.2)
    assert torch.bincount(train.labels).tolist() == [8] * 10
    assert torch.bincount(held_out.labels).tolist() == [2] * 10
    mask = held_out_mask(torch.arange(100) % 10, 0.3)
    assert torch.equal(mask, held_out_mask(torch.arange(100) % 10, 0.3))
    with pytest.raises(ValueError, match="validation-fraction"):
        read_cifar("cifar10", tmp_path, "validation")


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match="fqgan prepare cifar10 --data-dir"):
        read_cifar("cifar10", tmp_path)


class Attack:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("content", ["attack", b"", b"\x80\x02}q\x00(X\x04", b"hello"])
def test_bad_files_are_refused_and_run_nothing(tmp_path, content):
    folder = write_cifar(tmp_path, "cifar10")
    canary = tmp_path / "canary"
    raw = pickle.dumps(Attack(canary), protocol=2) if content == "attack" else content
    (folder / "test_batch").write_bytes(raw)
    with pytest.raises(ValueError, match="test_batch is not a CIFAR file"):
        read_cifar("cifar10", tmp_path, "test")
    assert not canary.exists()


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def mnist(tmp_path):
    random = np.random.default_rng(0)
    for name, count in (("train", 12), ("t10k", 10)):
        pixels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(tmp_path / f"{name}-images-idx3-ubyte.gz", pixels)
        labels = (np.arange(count) % 10).astype(np.uint8)
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", labels)
    return tmp_path


def test_mnist_is_padded_to_32_pixels(mnist):
    images = read_mnist(mnist)
    pixels = images.read(torch.arange(12))
    assert pixels.shape == (12, 3, 32, 32)
    assert pixels[:, :, :2].sum() == pixels[..., -2:].sum() == 0
    assert torch.equal(pixels[:, 0], pixels[:, 2])
    assert images.labels.tolist() == [*range(10), 0, 1]
    assert len(read_mnist(mnist, "test")) == 10


def test_unpacked_files_are_read_too(mnist):
    for file in list(mnist.iterdir()):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert len(read_mnist(mnist)) == 12


def test_colour_digits_are_three_digits_of_a_fixed_draw(mnist):
    digits = read_mnist(mnist)
    images = StackedDigits(digits, 5)
    random = np.random.RandomState(123)
    draws = [random.randint(len(digits), size=3) for _ in range(5)]  # one image at a time
    for image, draw in zip(images.read(torch.arange(5)), draws, strict=True):
        assert torch.equal(image, digits.pixels[torch.from_numpy(draw), 0])


def test_damaged_and_missing_files_are_named(mnist, tmp_path):
    (mnist / "train-labels-idx1-ubyte.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte\.gz is damaged"):
        read_mnist(mnist)
    with pytest.raises(FileNotFoundError, match="fqgan prepare mnist"):
        read_mnist(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="fqgan prepare svhn"):
        read_svhn(tmp_path / "none")


def test_svhn_has_the_digit_0_under_label_10(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 10), dtype=np.uint8)
    labels = np.arange(1, 11)[:, None]
    savemat(tmp_path / "train_32x32.mat", {"X": pixels, "y": labels})
    images = read_svhn(tmp_path)
    assert images.labels.tolist() == [*range(1, 10), 0]
    np.testing.assert_array_equal(
        images.read(torch.tensor([3]))[0], pixels[..., 3].transpose(2, 0, 1)
    )
    (tmp_path / "test_32x32.mat").write_bytes(b"no matrix")
    with pytest.raises(ValueError, match=r"test_32x32\.mat is damaged"):
        read_svhn(tmp_path, "test")
