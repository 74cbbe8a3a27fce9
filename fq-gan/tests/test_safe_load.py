"""Reading files of PyTorch without executing them."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch

from fqgan.safe_load import InertModule, load_torch_file


class Malicious:
    """Would make a file when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_numbers_and_activations_are_read_in_both_serialisations(tmp_path, zipped):
    path = tmp_path / "state_dict.pth"
    config = {"G_activation": torch.nn.ReLU(inplace=True), "G_lr": 1e-4}
    torch.save(
        {"itr": 3, "config": config}, path, _use_new_zipfile_serialization=zipped
    )  # fmt: skip
    loaded = load_torch_file(path)
    assert loaded["itr"] == 3
    assert loaded["config"]["G_lr"] == 1e-4
    assert isinstance(loaded["config"]["G_activation"], InertModule)
    torch.save({"weight": torch.arange(3.0)}, path, _use_new_zipfile_serialization=zipped)
    assert torch.equal(load_torch_file(path)["weight"], torch.arange(3.0))


@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_scalars_become_numbers(tmp_path, zipped):
    path = tmp_path / "state_dict.pth"
    saved = {"best_FID": np.float64(5.59), "best_IS": np.float32(8.5), "itr": np.int64(7)}
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    loaded = load_torch_file(path)
    assert loaded == {"best_FID": 5.59, "best_IS": 8.5, "itr": 7}
    assert type(loaded["itr"]) is int


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("beside", [None, torch.nn.ReLU()])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, zipped, beside):
    path, canary = tmp_path / "G.pth", tmp_path / "canary"
    saved = {"weight": Malicious(canary), "beside": beside}
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="was not loaded"):
        load_torch_file(path)
    assert not canary.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path):
    path, canary = tmp_path / "G.pth", tmp_path / "canary"
    path.write_bytes(pickle.dumps(Malicious(canary)))
    with pytest.raises(ValueError, match=r"G\.pth"):
        load_torch_file(path)
    assert not canary.exists()


@pytest.mark.parametrize("keep", [0, 10, 400])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_named(tmp_path, zipped, keep):
    path = tmp_path / "G.pth"
    torch.save({"weight": torch.zeros(1000)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"G\.pth"):
        load_torch_file(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        load_torch_file(tmp_path / "absent.pth")
