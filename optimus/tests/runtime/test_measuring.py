"""What benchmarks measure with."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from optimus.runtime.measuring import peak_memory, product_speed, seconds_of, unit_of


def test_seconds_are_of_the_processor_and_not_of_the_clock():
    assert seconds_of(lambda: time.sleep(0.3)) < 0.2
    assert unit_of("cpu") == "CPU s"


@pytest.mark.skipif(not peak_memory(), reason="the system does not tell")
def test_the_peak_is_of_this_process_and_stays():
    before = peak_memory()
    block = torch.ones(64, 2**20 // 4)  # 64 MiB
    del block
    assert peak_memory() >= before
    lines = "from optimus.runtime.measuring import peak_memory as peak; before = peak()"
    lines += "; block = bytearray(2**28); print(peak() - before)"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert 250 < float(done.stdout) < 300


def test_products_have_a_speed_in_every_type():
    for dtype in (torch.float32, torch.bfloat16):
        assert 1e8 < product_speed(dtype=dtype) < 1e15


def test_a_system_that_tells_no_peak_has_none(monkeypatch):
    monkeypatch.setattr(Path, "read_text", lambda _: "Name: python\n")
    assert peak_memory() == 0
