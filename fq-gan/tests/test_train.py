"""The command ``fqgan train`` in processes of its own: kills, two processes, precision."""

import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import command, finish, start, tiny_run, weights_of

from fqgan.biggan.train import train
from fqgan.runtime.checkpoint import Checkpoint
from fqgan.train import main, nearest


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
import os
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from runs import tiny_run
from fqgan.biggan.train import train

whole, halves = (tiny_run(Path(sys.argv[2]) / name, max_steps=4, save_every=2) for name in "wh")
step = replace(whole.step, num_d_accumulations=2, num_g_accumulations=2)
runs = (whole, replace(halves, max_steps=2), halves)
for run, port in zip(runs, sys.argv[3:], strict=True):  # a group of processes each
    os.environ["MASTER_PORT"] = port
    train(replace(run, step=step))
"""


def test_two_processes_resume_to_the_same_bits(tmp_path):
    """They share the accumulations; one run of the two is cut in the middle and continued."""
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        sockets = (one, two, three)
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        ports = [str(free.getsockname()[1]) for free in sockets]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    folders = [str(Path(__file__).parent), str(tmp_path)]
    words = [sys.executable, "-c", TWO_PROCESSES, *folders, *ports]
    for process in [start(words, RANK=str(rank), **group) for rank in (0, 1)]:
        finish(process)
    assert differing(tmp_path / "w", tmp_path / "h") == []


def test_only_the_named_preset_is_parsed_where_there_is_one():
    assert list(nearest(["biggan-c10"])) == ["biggan-c10", "smoke", "demo"]
    assert len(nearest(["--help"])) > 20


def test_the_command_trains_and_draws_curves(tmp_path):
    pytest.importorskip("matplotlib")
    main(["smoke", "--run-dir", str(tmp_path), "--max-steps", "2", "--evaluate-every", "0"])
    assert (tmp_path / "curves.png").stat().st_size > 1000
