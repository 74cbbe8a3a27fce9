"""When one of two ranks dies, the other does not wait for ever."""

import os
import signal
import time

import pytest
import torch
from factories import write_network
from jobs import PATIENCE, states, steps_of

from optimus.data.toy import toy_sentences


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


@pytest.mark.parametrize("start", ["fresh", "data"])
def test_two_ranks_train_other_networks_as_one_does(job, tmp_path, start):
    lines, found = toy_sentences(60), []
    networks = [
        write_network(tmp_path / kind, kind, lines, decoder)
        for kind, decoder in (("roberta", False), ("qwen2", True))
    ]
    more = f"--model.init {networks[0]} {networks[1]} --model.dropout 0 --model.latent-dim 6"
    more += f" --model.start {start} --objective.kind autoencoder --model.checkpointing"
    for ranks in (1, 2):
        words = job.command(tmp_path / str(ranks), 3, 3)
        outcome = job.run([*words, *more.split()], ranks=ranks)
        assert outcome.codes == [0] * ranks, outcome.text
        found.append(states(tmp_path / str(ranks))["model"])
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-5, msg=name)
