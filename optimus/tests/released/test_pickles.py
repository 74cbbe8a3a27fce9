import argparse

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from optimus.released.pickles import load_tensors, load_untrusted


@pytest.mark.parametrize("zipped", [True, False])
def test_what_the_authors_save_is_read(zipped, tmp_path):
    content = {
        "iter": 3,
        "beta": np.float64(0.5),
        "args": argparse.Namespace(device=torch.device("cpu"), name="x"),
        "model_state_dict": {"weight": torch.arange(6.0).view(2, 3)},
    }
    torch.save(content, tmp_path / "training.bin", _use_new_zipfile_serialization=zipped)
    found = load_untrusted(tmp_path / "training.bin")
    assert (found["iter"], float(found["beta"]), found["args"].name) == (3, 0.5, "x")
    assert torch.equal(
        load_tensors(tmp_path / "training.bin")["weight"], content["model_state_dict"]["weight"]
    )


def test_safetensors_are_read_too(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    assert torch.equal(load_tensors(tmp_path / "a.safetensors")["a"], torch.ones(2))


def test_broken_files_are_named(tmp_path):
    torch.save({"a": torch.ones(1000)}, tmp_path / "whole.bin")
    data = (tmp_path / "whole.bin").read_bytes()
    for name, content in (("cut.bin", data[:-500]), ("empty.bin", b""), ("x.safetensors", b"{}")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            load_untrusted(tmp_path / name)
    torch.save({"a": 1}, tmp_path / "none.bin")
    with pytest.raises(ValueError, match="no tensors by name"):
        load_tensors(tmp_path / "none.bin")
    with pytest.raises(FileNotFoundError, match=r"gone\.bin"):
        load_untrusted(tmp_path / "gone.bin")
