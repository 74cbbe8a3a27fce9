"""Runs that are killed: nothing half written counts, and the rest is made up to the bit."""

import os
import random
import signal
import threading
import time

import pytest
import torch
from jobs import FORK, assert_same_end, steps_of

from fqgan.runtime.checkpoint import Checkpoint, Progress


def parts() -> dict:
    return {"model": torch.nn.Linear(300, 300), "progress": Progress()}


def save_forever(folder, told) -> None:
    made = parts()
    checkpoint = Checkpoint(folder, **made)
    checkpoint.load_latest()
    while True:
        made["progress"].step += 1
        torch.nn.init.constant_(made["model"].weight, made["progress"].step)
        checkpoint.save(made["progress"].step)
        os.write(told, b"%08d" % made["progress"].step)


def test_twenty_kills_at_random_moments_of_saving_cost_no_finished_checkpoint(tmp_path):
    seed = random.Random(0)
    for _ in range(20):
        listen, tell = os.pipe()
        process = FORK.Process(target=save_forever, args=(tmp_path, tell))
        process.start()
        os.close(tell)
        told = os.read(listen, 8)
        time.sleep(seed.uniform(0, 0.05))
        process.kill()
        process.join()
        while more := os.read(listen, 8):
            told = more
        os.close(listen)
        made = parts()
        step = Checkpoint(tmp_path, **made).load_latest()
        assert step >= int(told)
        assert made["progress"].step == step
        assert bool((made["model"].weight == step).all())
        for folder in (tmp_path / "checkpoints").glob("[0-9]*"):
            assert {path.name for path in folder.iterdir()} == {
                "model.pt", "progress.pt", "random.pt", "digest.json"
            }  # fmt: skip


def die_in_the_save_of(step: int):
    """Rank 0 is killed by itself at a random moment of the save of ``step``."""
    delay = random.SystemRandom().uniform(0, 0.02)  # the run's own generator is part of its state

    def patch(rank: int) -> None:
        save = Checkpoint.save

        def save_or_die(self, number: int) -> None:
            if number == step and rank == 0:
                threading.Timer(delay, os.kill, (os.getpid(), 9)).start()
            save(self, number)
            if number == step and rank == 0:
                time.sleep(60)

        Checkpoint.save = save_or_die

    return patch


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_killed_in_a_save_ends_like_an_uninterrupted_one(job, tmp_path, ranks):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert job.run(job.command(whole, 6, 2), ranks=ranks).codes == [0] * ranks
    command = job.command(killed, 6, 2)
    outcome = job.run(command, ranks=ranks, before=die_in_the_save_of(4))
    assert outcome.codes[0] == -signal.SIGKILL
    assert None not in outcome.codes, "a rank was left behind"
    assert all(outcome.codes)
    assert steps_of(killed)[-1] in (2, 4)
    assert job.run(command, ranks=ranks).codes == [0] * ranks
    assert_same_end(whole, killed)
