"""The command ``fqgan train`` in processes of its own: kills, two processes, precision."""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_runs import command, finish, free_ports, start, tiny_run, weights_of

from fqgan.biggan.train import train
from fqgan.config import nearest, train_main
from fqgan.runtime.checkpoint import Checkpoint


def differing(one: Path, two: Path) -> list[str]:
    first, second = weights_of(one), weights_of(two)
    assert first
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


def wait_for_checkpoint(run_dir: Path, process) -> None:
    deadline = time.monotonic() + 90
    while not Checkpoint(run_dir).steps():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path):
    killed, whole = (
        tiny_run(tmp_path / name, max_steps=24, save_every=6) for name in ("killed", "whole")
    )
    process = start(command(killed))
    wait_for_checkpoint(killed.folder, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert 0 < Checkpoint(killed.folder).steps()[-1] < 24
    train(killed)
    train(whole)
    assert differing(killed.folder, whole.folder) == []
    metrics = [(run.folder / "metrics.jsonl").read_bytes() for run in (killed, whole)]
    assert metrics[0] == metrics[1]


def test_a_termination_saves_and_the_same_command_continues(tmp_path):
    run = tiny_run(tmp_path, max_steps=100_000, save_every=3)
    process = start(command(run))
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    assert "run the same command to continue" in finish(process, status=3)
    step = Checkpoint(tmp_path).steps()[-1]
    train(replace(run, max_steps=step + 1))
    assert Checkpoint(tmp_path).steps()[-1] == step + 1


TWO_PROCESSES = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from fqgan.biggan.step import GanStep
from fqgan.biggan.train import train
from tiny_runs import tiny_run

folder, die_at, *ports = sys.argv[2:]
step = GanStep.__call__


def die(self, images, labels, number):
    if number == int(die_at):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, images, labels, number)


GanStep.__call__ = die
run = tiny_run(Path(folder) / "killed", max_steps=4, save_every=2)
run = replace(run, step=replace(run.step, num_d_accumulations=2, num_g_accumulations=2))
for run_dir, port in zip(("killed", "whole"), ports):  # a group of processes each
    os.environ["MASTER_PORT"] = port
    train(replace(run, run_dir=str(Path(folder) / run_dir)))
"""


def two_processes(folder: Path, die_at: int, count: int) -> list:
    words = [sys.executable, "-c", TWO_PROCESSES, str(Path(__file__).parent), str(folder)]
    words += [str(die_at), *free_ports(count)]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    return [start(words, RANK=str(rank), **group) for rank in (0, 1)]


def test_two_killed_processes_end_with_the_bits_of_uninterrupted_ones(tmp_path):
    """They share the accumulations; both die in step 3, are started again, and run to the end."""
    for process in two_processes(tmp_path, die_at=3, count=1):
        finish(process, status=-signal.SIGKILL)
    assert Checkpoint(tmp_path / "killed").steps() == [2]
    for process in two_processes(tmp_path, die_at=0, count=2):
        finish(process)
    assert Checkpoint(tmp_path / "killed").steps() == [2, 4]
    assert differing(tmp_path / "killed", tmp_path / "whole") == []


def test_only_the_named_preset_is_parsed_where_there_is_one():
    assert list(nearest(["biggan-c10"])) == ["biggan-c10", "smoke", "demo"]
    assert len(nearest(["--help"])) > 20


def test_the_command_trains_and_draws_curves(tmp_path):
    pytest.importorskip("matplotlib")
    train_main(["smoke", "--run-dir", str(tmp_path), "--max-steps", "2", "--evaluate-every", "0"])
    assert (tmp_path / "curves.png").stat().st_size > 1000
