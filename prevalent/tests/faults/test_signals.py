"""SIGTERM and SIGUSR1 (SLURM's warning) save and leave; the same command goes on."""

import os
import signal
import time

import pytest
from jobs import PATIENCE, steps_of


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_and_leaves_with_status_3(job, tmp_path, number):
    run = tmp_path / "run"
    processes = job.start(job.command(run, 100_000, 100_000))
    deadline = time.monotonic() + PATIENCE
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").read_text():
        assert time.monotonic() < deadline, processes.log.read_text()
        time.sleep(0.02)
    os.kill(processes.each[0].pid, number)
    outcome = processes.wait()
    assert outcome.codes == [3], outcome.text
    assert "run the same command to continue" in outcome.sentence
    (stopped,) = steps_of(run)
    rows = (run / "metrics.jsonl").read_text()
    assert job.run(job.command(run, stopped + 2, 100_000)).codes == [0]
    assert steps_of(run)[-1] == stopped + 2
    assert (run / "metrics.jsonl").read_text().startswith(rows)
