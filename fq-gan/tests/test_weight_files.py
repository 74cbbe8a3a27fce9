"""Folders of weights: written whole, and refused in words where they do not fit."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch

from fqgan.runs import load_into, read_tensors, save_folder


@dataclass(frozen=True)
class Sizes:
    inputs: int = 2


def test_a_folder_has_the_networks_and_the_settings(tmp_path):
    network = torch.nn.Linear(2, 3)
    folder = save_folder(tmp_path / "model", {"a": network, "b": None}, Sizes(), step=4)
    assert sorted(path.name for path in folder.iterdir()) == ["a.safetensors", "config.json"]
    assert json.loads((folder / "config.json").read_text()) == {"inputs": 2, "step": 4}
    other = torch.nn.Linear(2, 3)
    load_into(other, folder / "a.safetensors")
    torch.testing.assert_close(other.weight, network.weight, rtol=0, atol=0)
    save_folder(folder, {"b": network}, Sizes())
    assert sorted(path.name for path in folder.iterdir()) == ["b.safetensors", "config.json"]


def test_weights_of_another_network_and_damaged_ones_are_refused(tmp_path):
    folder = save_folder(tmp_path / "model", {"a": torch.nn.Linear(2, 3)}, Sizes())
    with pytest.raises(ValueError, match="does not fit"):
        load_into(torch.nn.Linear(3, 3), folder / "a.safetensors")
    (folder / "a.safetensors").write_bytes(b"abc")
    with pytest.raises(ValueError, match="is damaged"):
        read_tensors(folder / "a.safetensors")
