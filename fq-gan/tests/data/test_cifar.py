"""CIFAR files are read without running what a pickle may hold."""

import os
import pickle

import numpy as np
import pytest
import torch

from fqgan.data.small_images import ARCHIVES, held_out_mask, read_cifar


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
