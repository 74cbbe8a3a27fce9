"""MNIST and SVHN from small files in the official formats."""

import gzip
import struct

import numpy as np
import pytest
import torch
from scipy.io import savemat

from fqgan.data.small_images import StackedDigits, read_mnist, read_svhn


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
