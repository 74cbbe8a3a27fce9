"""The host waits for the device nowhere in a step, but where this file names it.

No operation is among those that `--deterministic` refuses on a GPU. On a stand-in of a device a
step mixes nothing of the host with what is the device's.
"""

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stand_in import CUDA, stand_in

from optimus.data.toy import labeled_sentences, write_toy
from optimus.runtime.counting import count
from optimus.runtime.distributed import World
from optimus.runtime.run_folder import RunFolder
from optimus.tasks import classifier, dialog, label_control, language_model

ON_THE_HOST = (
    *("training.py:of", "text.py", "labeled.py", "dialog.py:contexts_of"),  # batches of the CPU
    "precision.py:step",  # AdamW counts its steps there
)
CPU, ON_A_DEVICE = World(0, 1, torch.device("cpu")), World(0, 1, CUDA)
TASKS = {"train": language_model, "train-dialog": dialog, "train-label-control": label_control}


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """The corpora of the smoke presets."""
    monkeypatch.chdir(tmp_path)
    write_toy("data/toy", sizes=(200, 20, 20))
    rows = "".join(f"{label}\t{text}\n" for label, text in labeled_sentences(60))
    turns = "hello there . [SEP] how are you ?\ti am fine .\n" * 8
    for folder, text in (("toy-labels", rows), ("dailydialog", turns)):
        Path("data", folder).mkdir()
        for split in ("train", "valid", "test"):
            Path("data", folder, f"{split}.txt").write_text(text)


@contextmanager
def opened(verb, world=CPU, **changes):
    """A run of a smoke preset that is ready for its first step."""
    run_dir = Path("run")
    if verb in TASKS:
        task, presets = TASKS[verb].TASK, TASKS[verb].PRESETS
        place = world.device.type
        config = replace(presets["smoke"][1], run_dir=run_dir, device=place, **changes)
        with RunFolder(run_dir, task.kind, config) as folder:
            yield task.open(config, world, folder)
        return
    data = classifier.TaskOptions(
        "labeled", Path("data/toy-labels/train.txt"), Path("data/toy-labels/test.txt")
    )
    config = replace(classifier.PRESETS["smoke"][1], run_dir=run_dir, data=data, **changes)
    with RunFolder(run_dir, classifier.KIND, config) as folder:
        shared = classifier.open_shared(config, world, folder)
        yield classifier.trial_task(shared, shared.train_set).open(config, world, folder)


def counted(verb, **changes):
    """Of the second step of a smoke run."""
    with opened(verb, **changes) as run:
        run.step()
        return count(run.step, on_the_host=ON_THE_HOST)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("verb", [*TASKS, "train-classifier"])
def test_a_step_waits_for_nothing(texts, verb, precision):
    found = counted(verb, precision=precision)
    assert not found.waits
    assert not found.unrepeatable
    assert verb != "train" or sum(found.kernels.values()) < 800


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("verb", [*TASKS, "train-classifier"])
def test_a_step_on_a_device_takes_nothing_from_the_host(texts, verb, precision):
    with stand_in() as device, opened(verb, ON_A_DEVICE, precision=precision) as run:
        run.step()
        device.waits.clear()
        run.step()
        assert set(device.waits) <= set(ON_THE_HOST)


def test_a_fixed_encoder_waits_for_nothing_either(texts):
    assert not counted("train-classifier", mode="feature").waits


def test_sentences_of_a_style_are_waited_for_no_more(texts):
    style = replace(dialog.PRESETS["smoke"][1].fusion, style=Path("data/toy/test.txt"))
    assert not counted("train-dialog", fusion=style).waits
