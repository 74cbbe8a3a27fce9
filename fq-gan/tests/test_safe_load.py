"""Reading files of PyTorch without executing them."""

from __future__ import annotations

import os
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from fqgan.released.loading import (
    InertModule,
    PickledArray,
    Record,
    load_record_pickle,
    load_torch_file,
)


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


class Network:
    """What a file of somebody's class holds; its code must not run when it is read."""

    def __init__(self, **state):
        self.__dict__.update(state)

    def __setstate__(self, state):
        raise AssertionError("the class of the file was used")


@pytest.fixture
def dump(tmp_path, monkeypatch):
    """Pickle under the name ``theirs.Network``."""
    module = ModuleType("theirs")
    module.Network = Network
    monkeypatch.setitem(sys.modules, "theirs", module)
    monkeypatch.setattr(Network, "__module__", "theirs")

    def write(content, protocol=4):
        path = tmp_path / "network.pkl"
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        return path

    return write


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_records_and_arrays_are_read(dump, protocol):
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    network = Network(name="G", array=array, column=np.asfortranarray(array), last=np.float32(2.5))
    loaded = load_record_pickle(dump((network, {"a": [1, None]}), protocol), ["theirs.Network"])
    assert isinstance(loaded[0], Record)
    assert loaded[1] == {"a": [1, None]}
    state = loaded[0].state
    assert (state["name"], state["last"]) == ("G", 2.5)
    for name in ("array", "column"):
        assert isinstance(state[name], PickledArray)
        np.testing.assert_array_equal(state[name].numpy(), array)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_pickle_of_records_is_refused_and_not_run(dump, tmp_path, protocol):
    canary = tmp_path / "canary"
    for content in (
        Malicious(canary),
        Network(variables=[("weight", Malicious(canary))]),
        np.array([Malicious(canary)], dtype=object),
        {"open": open, "class": Malicious},
    ):
        with pytest.raises(ValueError, match="was not loaded"):
            load_record_pickle(dump(content, protocol), ["theirs.Network"])
        assert not canary.exists()


def test_a_class_that_was_not_named_is_refused(dump):
    with pytest.raises(ValueError, match=r"theirs\.Network"):
        load_record_pickle(dump(Network()), [])


def test_stand_ins_cannot_be_altered_by_a_file(tmp_path):
    path = tmp_path / "altering.pkl"
    for name in (b"numpy.core.multiarray\nscalar", b"theirs\nNetwork", b"numpy\ndtype"):
        # The named thing itself, then attributes for it: (None, {"__call__": 1}).
        path.write_bytes(b"c" + name + b"\n(N(dS'__call__'\nI1\nstb.")
        with pytest.raises(ValueError, match=r"altering\.pkl"):
            load_record_pickle(path, ["theirs.Network"])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ((1, (2,), None, False, b"12"), "other than plain numbers"),
        ((1, (2,), "f4", False, b"123"), "buffer size"),
        ((1, (2,), "O", False, b"12345678"), "an array of type O"),
        ((1, (2,), "no such", False, b"12"), "unknown type"),
    ],
)
def test_arrays_that_are_not_plain_numbers_are_refused(state, message):
    from fqgan.released.loading import InertDtype

    array = PickledArray()
    version, shape, name, order, raw = state
    array.__setstate__((version, shape, name and InertDtype(name), order, raw))
    with pytest.raises(ValueError, match=message):
        array.numpy()


def test_a_truncated_pickle_of_records_is_named(dump, tmp_path):
    path = dump(Network(array=np.zeros(100)))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"network\.pkl is not a readable pickle|was not loaded"):
        load_record_pickle(path, ["theirs.Network"])
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_record_pickle(tmp_path / "none.pkl", [])
