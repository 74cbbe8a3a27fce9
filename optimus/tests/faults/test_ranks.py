"""When one of two ranks dies, the other does not wait for ever."""

import os
import signal
import time

from jobs import PATIENCE, steps_of


def test_the_death_of_a_rank_ends_the_other(job, tmp_path):
    run = tmp_path / "run"
    processes = job.start(job.command(run, 100_000, 2), ranks=2)
    deadline = time.monotonic() + PATIENCE
    while not steps_of(run):
        assert time.monotonic() < deadline, processes.log.read_text()
        time.sleep(0.02)
    os.kill(processes.each[1].pid, signal.SIGKILL)
    outcome = processes.wait()
    assert outcome.codes[1] == -signal.SIGKILL
    assert outcome.codes[0] not in (None, 0), outcome.text
    kept = steps_of(run)[-1]
    assert kept % 2 == 0
    again = job.run(job.command(run, kept + 2, 2), ranks=2)
    assert again.codes == [0, 0], again.text
    assert f"continuing from step {kept}" in again.text
