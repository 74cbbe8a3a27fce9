"""Both ways of a benchmark compute where ``--device`` says, on a stand-in of a device."""

import sys
from pathlib import Path

import pytest
from stand_in import stand_in

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import quantizer
import training_iteration


@pytest.mark.parametrize("way", ["plain", "ours"])
def test_an_iteration_of_biggan_runs_on_a_device(way):
    with stand_in():
        measured = training_iteration.worker(way, "cuda", codes=64, repeats=1, width=8, batch=4)
    assert len(measured["wall"]) == 1


@pytest.mark.parametrize("way", ["plain", "ours", "ours straight_through"])
def test_the_quantizer_runs_on_a_device(monkeypatch, way):
    monkeypatch.setattr(quantizer, "SHAPE", (2, 8, 4, 4))
    with stand_in():
        measured = quantizer.worker(way, "cuda", 16, "channels_last", 1)
    assert len(measured["both"]) == 1
