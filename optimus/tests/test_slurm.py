"""The SLURM script saves on the signal, puts the job back, and the next job continues.

`torchrun` and its two processes are real; `srun`, `scancel` and `scontrol` are stand-ins.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from optimus.data.toy import write_toy
from optimus.runtime.checkpoint import finished_steps

ROOT = Path(__file__).parents[1]
STAND_INS = {
    # what follows the options of srun, with the pid that scancel signals
    "srun": 'echo $$ > "$PLACE/pid"; shift; exec "$@"',
    "scancel": 'kill -USR1 "$(cat "$PLACE/pid")"',
    "scontrol": 'case "$1" in show) echo localhost;; *) echo "$@" >> "$PLACE/asked";; esac',
}
PATIENCE = 240  # seconds, on a busy machine


@pytest.fixture
def job(tmp_path):
    """A function that starts the script with more words; and the folder of the stand-ins."""
    place = tmp_path / "place"
    place.mkdir()
    for name, text in STAND_INS.items():
        (place / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (place / name).chmod(0o755)
    path = f"{place}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PLACE": str(place), "OMP_NUM_THREADS": "1"}
    environment |= {"SLURM_JOB_ID": str(os.getpid()), "SLURM_NNODES": "1"}
    environment |= {"SLURM_GPUS_ON_NODE": "2", "SLURM_CPUS_PER_TASK": "1"}
    environment |= {"SLURM_JOB_NODELIST": "localhost"}
    data = write_toy(tmp_path / "toy", sizes=(80, 8, 8))
    words = ["train", "smoke", "--run-dir", str(tmp_path / "run"), "--data.folder", str(data)]
    words += ["--device", "cpu", "--save-every", "100000", "--eval-every", "100000"]

    def start(*more):
        log = (tmp_path / "log").open("w")
        command = ["bash", str(ROOT / "scripts/slurm.sh"), *words, *more]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    return start, place, tmp_path


def test_a_signal_saves_puts_the_job_back_and_the_next_job_continues(job):
    start, place, folder = job
    process = start("--max-steps", "100000", "--log-every", "1")
    rows = folder / "run/metrics.jsonl"
    deadline = time.monotonic() + PATIENCE
    while not rows.exists() or not rows.read_text():
        going = time.monotonic() < deadline and process.poll() is None
        assert going, (folder / "log").read_text()
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)  # as --signal=B:USR1@300 does
    assert process.wait(PATIENCE) == 0, (folder / "log").read_text()
    (stopped,) = finished_steps(folder / "run")
    assert (place / "asked").read_text() == f"requeue {os.getpid()}\n"
    (place / "asked").unlink()
    assert start("--max-steps", str(stopped + 1)).wait(PATIENCE) == 0, (folder / "log").read_text()
    assert finished_steps(folder / "run")[-1] == stopped + 1
    assert not (place / "asked").exists()
    assert f"continuing from step {stopped}" in (folder / "log").read_text()


@pytest.mark.slow
def test_a_job_that_fails_is_not_put_back(job):
    start, place, folder = job
    assert start("--max-steps", "2", "--data.folder", str(folder / "nothing")).wait(PATIENCE) != 0
    assert not (place / "asked").exists()
