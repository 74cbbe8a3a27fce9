"""The same calls work in one process and in several."""

import socket
import subprocess
import sys
import threading
import time

import pytest
import torch

from optimus.runtime import distributed

TWO_RANKS = """
import torch
from optimus.runtime import distributed as d
with d.start("cpu", seed=5) as world:
    assert world.size == 2 and world.is_main == (world.rank == 0)
    assert d.reduce_sum(torch.tensor(world.rank + 1.0)).item() == 3
    assert d.reduce_mean(torch.tensor([world.rank + 1.0])).item() == 1.5
    assert d.gather_objects(world.rank) == [0, 1]
    model = d.wrap(torch.nn.Linear(2, 1), world)
    assert d.unwrap(model) is model.module
    seeds = d.gather_objects(torch.initial_seed())
    assert seeds == [5, 6], seeds
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_one_process_needs_no_group():
    with distributed.start("cpu", seed=3) as world:
        assert (world.rank, world.size, world.is_main) == (0, 1, True)
        value = torch.tensor(2.0)
        assert distributed.reduce_sum(value) is value
        assert distributed.reduce_mean(value).item() == 2
        model = torch.nn.Linear(1, 1)
        assert distributed.wrap(model, world) is model
        assert distributed.unwrap(model) is model
        assert torch.initial_seed() == 3


def test_a_rank_that_fails_does_not_wait_for_the_messages_of_its_peers(monkeypatch):
    done = []
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "get_backend", lambda: "nccl")
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: done.append("waits"))
    monkeypatch.setattr(
        distributed.dist.distributed_c10d, "_abort_process_group", lambda: done.append("aborts")
    )
    with pytest.raises(ValueError, match="broken"), distributed.start("cpu"):
        raise ValueError("broken")
    assert done == ["aborts"]


def test_a_missing_device_is_named():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ValueError, match="--device cuda needs a CUDA device"):
        distributed.choose_device("cuda")


@pytest.mark.parametrize(
    "device", [3, None, "tpu", "gpu", "mps", "meta", "cuda:x", "cuda:-1", "CPU", ""]
)
def test_an_unknown_device_is_named(device):
    with pytest.raises(ValueError, match=f"--device {device}: choose one of auto, cpu, cuda"):
        distributed.choose_device(device)


def test_two_processes_reduce_and_gather(tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(TWO_RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(free_port()), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[:2000] + " ... " + done.stderr[-2000:]


def test_leaving_waits_for_a_thread_that_is_at_work():
    """Python must not end below one of gloo's threads: the process would be aborted."""
    ended = threading.Event()

    def work() -> None:
        until = time.monotonic() + 0.3
        matrix = torch.ones(300, 300)
        while time.monotonic() < until:
            matrix @ matrix
        ended.set()

    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.05)
    distributed._let_threads_finish(patience=30)
    assert ended.is_set()
