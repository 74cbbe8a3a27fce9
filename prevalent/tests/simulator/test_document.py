"""The code of docs/simulator.md runs, and so does the example."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("gymnasium")

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "simulator.md").read_text(), re.S | re.M
)


@pytest.fixture(scope="module")
def small_cache(tmp_path_factory):
    """A toy world under the name that ``prevalent/Toy-v0`` looks for, of two houses only."""
    from prevalent.data.toy import ToyConfig, write_toy

    folder = tmp_path_factory.mktemp("small_cache")
    write_toy(folder / "toy-world-24-6", ToyConfig(train_houses=1, unseen_houses=1))
    return folder


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_of_the_document_runs(
    number, small_cache, toy_world, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("PREVALENT_CACHE", str(small_cache))
    monkeypatch.setitem(sys.modules, "MatterSim", None)
    (tmp_path / "connectivity").symlink_to(toy_world / "connectivity")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "block.py").write_text(BLOCKS[number])
    runpy.run_path("block.py")
    assert capsys.readouterr().out or "sys.modules" in BLOCKS[number]


def test_there_are_blocks_to_run():
    assert len(BLOCKS) == 5


def learn(*words):
    command = [sys.executable, str(ROOT / "examples" / "learn_toy.py"), *words]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return [float(rate) for rate in re.findall(r"success (\d\.\d+)", done.stdout)]


def test_the_example_learns_and_tells_what_it_reaches():
    assert len(learn("--updates", "2", "--houses", "1", "1")) == 2


@pytest.mark.slow
def test_the_example_reaches_the_success_that_is_stated():
    at_random, *_, last = learn()
    assert at_random < 0.1
    assert last > 0.7
