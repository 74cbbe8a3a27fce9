"""Reading files of PyTorch without executing them."""

from __future__ import annotations

import os
import pickle
import struct
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from factories import Recorded, write_tensor_bundle

from fqgan.data.tfrecords import (
    bytes_field,
    crc32c,
    fields,
    last_values,
    number_field,
    varint,
    write_varint,
)
from fqgan.released.loading import (
    InertModule,
    PickledArray,
    Record,
    load_record_pickle,
    load_torch_file,
    load_with_report,
    require_complete,
    write_report,
)
from fqgan.released.tensor_bundle import read_tensor_bundle


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
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_record_pickle(tmp_path / "none.pkl", [])


@pytest.fixture
def report():
    network = torch.nn.Linear(2, 3)
    state = {"weight": torch.zeros(3, 3), "extra": torch.zeros(1)}
    return load_with_report(network, state, "G")


def test_the_report_names_what_does_not_fit(report):
    assert not report.complete
    assert report.missing == ("bias",)
    assert report.unexpected == ("extra",)
    assert report.mismatched == ("weight: [3, 3] in the file, [3, 2] in the network",)
    assert "1 missing, 1 unexpected, 1 of another shape" in report.text()


def test_the_first_tensor_that_does_not_fit_is_named(report, tmp_path):
    with pytest.raises(ValueError, match=r"of another shape; the first is weight: \[3, 3\]"):
        require_complete([report], tmp_path)
    network = torch.nn.Linear(2, 3)
    require_complete([load_with_report(network, network.state_dict(), "G")], tmp_path)


def test_the_report_has_one_line_per_tensor(report, tmp_path):
    write_report(tmp_path, [report])
    lines = (tmp_path / "report.txt").read_text().splitlines()
    assert len(lines) == 1 + 1 + 1 + 1  # summary, missing, unexpected, mismatched


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


def test_the_checksum_has_the_values_of_rfc_3720():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes([255]) * 32) == 0x62A8AB43


@pytest.mark.parametrize("length", [4095, 4096, 12345, 64 * 4096 + 77])
def test_lanes_give_the_checksum_of_one_pass(length):
    data = np.random.default_rng(0).integers(0, 256, length, dtype=np.uint8).tobytes()
    whole = crc32c(data)
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    assert whole == value ^ 0xFFFFFFFF


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**35])
def test_a_varint_is_read_back(number):
    assert varint(write_varint(number), 0) == (number, len(write_varint(number)))


def test_fields_are_read_back_in_their_order():
    message = number_field(3, 300) + bytes_field(2, b"text") + number_field(3, 7)
    assert list(fields(message)) == [(3, 300), (2, b"text"), (3, 7)]
    assert last_values(message) == ({3: 7}, {2: b"text"})


def test_an_unknown_kind_of_field_is_an_error():
    with pytest.raises(KeyError, match="wire type 3"):
        list(fields(bytes([0x0B])))
