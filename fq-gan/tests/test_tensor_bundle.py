"""TensorFlow checkpoints without TensorFlow."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from factories import Recorded, write_tensor_bundle

from fqgan.released.tensor_bundle import read_tensor_bundle


def test_a_written_bundle_is_read_back(tmp_path):
    tensors = {
        "a/w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a/step": np.array(7, dtype=np.int64),
        "empty": np.zeros((0, 2), dtype=np.float32),
    }
    write_tensor_bundle(tmp_path / "ckpt", tensors)
    loaded = read_tensor_bundle(tmp_path / "ckpt")
    assert set(loaded) == set(tensors)
    for name, array in tensors.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


@pytest.mark.parametrize("part", ["index", "data"])
def test_a_flipped_bit_is_noticed(tmp_path, part):
    write_tensor_bundle(tmp_path / "ckpt", {"w": np.ones(50, dtype=np.float32)})
    path = next(tmp_path.glob(f"ckpt.{part}*"))
    raw = bytearray(path.read_bytes())
    raw[5] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(ValueError, match=r"ckpt\."):
        read_tensor_bundle(tmp_path / "ckpt")


def test_other_files_are_refused_in_words(tmp_path):
    (tmp_path / "x.index").write_bytes(struct.pack("<Q", 1) * 10)
    with pytest.raises(ValueError, match="not the index of a TensorFlow checkpoint"):
        read_tensor_bundle(tmp_path / "x")
    with pytest.raises(FileNotFoundError, match="no TensorFlow checkpoint"):
        read_tensor_bundle(tmp_path / "y")


def test_missing_data_is_named(tmp_path):
    write_tensor_bundle(tmp_path / "ckpt", {"w": np.ones(5, dtype=np.float32)})
    next(tmp_path.glob("*.data-*")).unlink()
    with pytest.raises(FileNotFoundError, match="data-00000-of-00001"):
        read_tensor_bundle(tmp_path / "ckpt")


@pytest.mark.golden
@pytest.mark.cases("ugatit/ckpt_full/*/*.index")
def test_a_recorded_checkpoint_has_the_recorded_values(case):
    tensors = read_tensor_bundle(case)
    arrays = case.parents[2] / "ugatit_small_full.npz"
    if not arrays.exists():
        pytest.skip(f"{arrays.name}, which has the values, is absent")
    recorded = Recorded(arrays)
    expected = recorded.state("ckpt")
    compared = [name for name in expected if name in tensors]
    assert compared
    for name in compared:
        np.testing.assert_array_equal(tensors[name], expected[name].numpy())
