"""``--sharding fsdp``: two processes that share a model out are one process; resume and weights."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from optimus.api import SentenceVAE
from optimus.data.toy import write_toy
from optimus.loop import train
from optimus.models.vae import OptimusModel
from optimus.runtime.checkpoint import read_part
from optimus.runtime.logs import read_metrics
from optimus.tasks.language_model import PRESETS, TASK

ROUNDING = 1e-3  # after four steps of AdamW, which divides small gradients by their own size
SHARED = """
import sys
from dataclasses import replace
from pathlib import Path
from test_sharding import smoke
from optimus.loop import train_in
from optimus.runtime.distributed import start
from optimus.runtime.signals import StopSignal
from optimus.tasks.language_model import TASK
config = replace(smoke(Path(sys.argv[1]), "shared"), sharding="fsdp")
with start("cpu", seed=config.seed) as world, StopSignal() as stop:
    train_in(world, stop, TASK, replace(config, max_steps=2))
    train_in(world, stop, TASK, config)
"""


def smoke(folder, name):
    preset = PRESETS["smoke"][1]
    return replace(
        preset,
        run_dir=folder / name,
        data=replace(preset.data, folder=folder / "toy"),
        model=replace(preset.model, dropout=0.0),
        objective=replace(preset.objective, kind="autoencoder"),  # no noise, which ranks draw apart
        optimizer=replace(preset.optimizer, accumulate=2),
        max_steps=4,
        log_every=1,
        eval_every=2,
        device="cpu",
        precision="fp32",
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of a run of one process and of one that two processes share, and then continue."""
    folder = tmp_path_factory.mktemp("runs")
    write_toy(folder / "toy")
    train(TASK, smoke(folder, "plain"))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    script = folder / "shared.py"
    script.write_text(SHARED)
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        [*command, "--standalone", str(script), str(folder)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "plain", folder / "shared"


def test_losses_and_scores_are_those_of_one_process(runs):
    plain, shared = (list(read_metrics(folder)) for folder in runs)
    assert [row["step"] for row in plain] == [row["step"] for row in shared]
    for one, other in zip(plain, shared, strict=True):
        for name in ("loss", "gradient_norm", "eval_loss", "eval_rec"):
            assert (name in one) == (name in other)
            if name in one:
                assert other[name] == pytest.approx(one[name], rel=ROUNDING), (one["step"], name)


def test_weights_for_use_are_whole_and_need_no_processes(runs):
    plain, shared = (OptimusModel.from_pretrained(folder / "model") for folder in runs)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value, rtol=ROUNDING, atol=ROUNDING)
    assert shared.config.architectures == plain.config.architectures
    assert (runs[1] / "best" / "model.safetensors").is_file()
    assert len(SentenceVAE.from_pretrained(runs[1]).sample(2)) == 2


def test_a_checkpoint_is_read_whole_by_one_process(runs):
    state, step = read_part(runs[1], "model")
    assert step == 4
    plain, _ = read_part(runs[0], "model")
    assert state.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(state[name], value, rtol=ROUNDING, atol=ROUNDING)
    with pytest.raises(ValueError, match="no part 'nothing'"):
        read_part(runs[1], "nothing")


def test_another_way_of_sharing_is_refused_for_a_started_run(runs):
    config = replace(smoke(runs[1].parent, "shared"), max_steps=5)
    with pytest.raises(ValueError, match="--sharding"):
        train(TASK, config)


def test_an_index_with_code_is_refused(runs, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    from optimus.runtime.shards import read_whole

    (tmp_path / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="is refused: it holds more than an index"):
        read_whole(tmp_path, "model")
    assert not (tmp_path / "ran").exists()


def test_a_damaged_share_is_found(runs):
    digests = json.loads((runs[1] / "checkpoints/00000004/digest.json").read_text())
    assert sum(name.startswith("shared/") for name in digests) == 3  # an index and two shares


def test_one_process_is_refused_and_so_is_what_does_not_go_together(tmp_path):
    write_toy(tmp_path / "toy")
    config = smoke(tmp_path, "one")
    with pytest.raises(ValueError, match="--sharding fsdp needs several processes"):
        train(TASK, replace(config, sharding="fsdp"))
    with pytest.raises(ValueError, match="--sharding fsdp does not go with that"):
        replace(config, sharding="fsdp", compile=True)
