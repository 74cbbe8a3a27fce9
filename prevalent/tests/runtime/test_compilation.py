"""Regions are compiled in place: the same numbers and names; refusals say what is missing."""

import pytest
import torch
from torch import nn

from prevalent.runtime import compilation
from prevalent.runtime.compilation import compile_regions

CPU = torch.device("cpu")


def test_a_compiled_region_computes_the_same_under_the_same_names(monkeypatch):
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))
    names, inputs = list(network.state_dict()), torch.randn(5, 3)
    expected = network(inputs)
    compile_regions([network], "some", CPU)
    torch.testing.assert_close(network(inputs), expected)
    assert list(network.state_dict()) == names


def test_a_run_without_regions_is_refused():
    with pytest.raises(ValueError, match="--compile is not offered for runs of kind speaker"):
        compile_regions([], "speaker", CPU)


def test_a_machine_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"--compile needs a C\+\+ compiler"):
        compile_regions([nn.Linear(1, 1)], "some", CPU)
