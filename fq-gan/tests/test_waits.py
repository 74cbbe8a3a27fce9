"""The host waits for the device nowhere in a step, but where this file names it.

No operation of a run with `--deterministic` is among those that it refuses on a GPU. On a stand-in
of a device a step mixes nothing of the host with what is the device's.
"""

from dataclasses import replace

import pytest
import torch
from stand_in import CUDA, stand_in

from fqgan.biggan.config import PRESETS as BIGGAN
from fqgan.biggan.train import TASK as BIGGAN_TASK
from fqgan.runtime.counting import count
from fqgan.runtime.distributed import World
from fqgan.runtime.run_folder import RunFolder
from fqgan.stylegan2.config import PRESETS as STYLEGAN2
from fqgan.stylegan2.train import TASK as STYLEGAN2_TASK
from fqgan.ugatit.config import PRESETS as UGATIT
from fqgan.ugatit.train import TASK as UGATIT_TASK

ON_THE_HOST = (
    *("batches.py", "images.py", "unpaired.py"),
    "networks.py:training_styles",  # whether styles are mixed is drawn on the CPU
)
RUNS = {
    "biggan": (BIGGAN_TASK, BIGGAN["smoke"][1]),
    "ugatit": (UGATIT_TASK, UGATIT["ugatit-smoke"][1]),
    "stylegan2": (STYLEGAN2_TASK, STYLEGAN2["stylegan2-smoke"][1]),
}


@pytest.mark.parametrize("family", RUNS)
def test_a_step_waits_for_nothing(tmp_path, family):
    task, config = RUNS[family]
    with RunFolder(tmp_path / "run", task.kind, config) as folder:
        run = task.open(config, World(0, 1, torch.device("cpu")), folder)
        torch.use_deterministic_algorithms(True)
        try:
            found = count(run.step, on_the_host=ON_THE_HOST)
        finally:
            torch.use_deterministic_algorithms(False)
    assert not found.waits
    assert not found.unrepeatable


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("family", RUNS)
def test_a_step_on_a_device_takes_nothing_from_the_host(tmp_path, family, precision):
    task, config = RUNS[family]
    config = replace(config, run_dir=str(tmp_path / "run"), device="cuda", precision=precision)
    with stand_in() as device, RunFolder(tmp_path / "run", task.kind, config) as folder:
        run = task.open(config, World(0, 1, CUDA), folder)
        run.step()
        device.waits.clear()
        run.step()
        assert set(device.waits) <= {"precision.py:step"}  # loss scaling, clipping
