"""The host waits for the device in a step only where this file names it.

No operation is among those that `--deterministic` refuses on a GPU. On a stand-in of a device a
step mixes nothing of the host with what is the device's.
"""

from dataclasses import replace

import pytest
import torch
from stand_in import CUDA, stand_in

from prevalent.loop import Training
from prevalent.runtime.counting import count
from prevalent.runtime.distributed import World
from prevalent.runtime.run_folder import RunFolder
from prevalent.tasks.graph import TASK as GRAPH
from prevalent.tasks.hanna import TASK as HANNA
from prevalent.tasks.ndh import TASK as NDH
from prevalent.tasks.pretraining import PRETRAIN_PRESETS, TASK as PRETRAINING
from prevalent.tasks.r2r import TASK as R2R
from prevalent.tasks.speaker import TASK as SPEAKER
from tests.toy_runs import follower_run, graph_run, hanna_run, ndh_run, on_toy_world, speaker_run

ON_THE_HOST = (
    "encoders.py:cut",  # lengths of the texts
    "encoders.py:packing",  # places of their words
    "kernels.py:of",  # an LSTM that a CPU alone has
    "triplets.py",
    "optimizer.py:step",  # optimizers count their steps there
    "precision.py:step",
)
ALLOWED = {
    "pretraining": set(),
    "r2r": {"rollout.py:_draw"},  # the chosen actions, with which the host moves the agents
    "speaker": set(),
    "ndh": {"ndh.py:_choose"},
    "hanna": {"hanna.py:step", "hanna.py:rollout"},  # and its chances, once an episode
    "graph": {"graph.py:_choose"},
}


def pretraining_run(world, run_dir, **changes):
    words = {"vocabulary": "wordpiece.txt", **changes}
    return on_toy_world(PRETRAIN_PRESETS["smoke"][1], world, run_dir, **words)


RUNS = {
    "pretraining": (PRETRAINING, pretraining_run),
    "r2r": (R2R, follower_run),
    "speaker": (SPEAKER, speaker_run),
    "ndh": (NDH, ndh_run),
    "hanna": (HANNA, hanna_run),
    "graph": (GRAPH, graph_run),
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_step_waits_where_it_is_named_and_nowhere_else(toy_world, tmp_path, kind):
    task, make = RUNS[kind]
    config = replace(make(toy_world, tmp_path / "run"), held_out=(), precision="fp32")
    with RunFolder(config.run_dir, task.kind, config) as folder:
        run: Training = task.open(config, World(0, 1, torch.device("cpu")), folder)
        found = count(run.step, on_the_host=ON_THE_HOST)
    assert set(found.waits) <= ALLOWED[kind]
    assert not found.unrepeatable
    assert found.waits["hanna.py:rollout"] <= 1


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", RUNS)
def test_a_step_on_a_device_takes_nothing_from_the_host(toy_world, tmp_path, kind, precision):
    task, make = RUNS[kind]
    changes = {"held_out": (), "precision": precision, "device": "cuda"}
    config = replace(make(toy_world, tmp_path / "run"), **changes)
    with stand_in() as device, RunFolder(config.run_dir, task.kind, config) as folder:
        run = task.open(config, World(0, 1, CUDA), folder)
        run.step()
        device.waits.clear()
        run.step()
        assert set(device.waits) <= ALLOWED[kind] | set(ON_THE_HOST)
