"""Checkpoints survive kills, damage and full disks, and restore a run to the bit."""

import json
import os
import random

import numpy as np
import pytest
import torch

from prevalent.runtime.checkpoint import Checkpoint, Progress
from prevalent.runtime.files import digest


def build(folder, **numbers):
    model, progress = torch.nn.Linear(3, 2), Progress(**numbers)
    return model, progress, Checkpoint(folder, model=model, progress=progress)


def test_parts_and_random_states_come_back(tmp_path):
    model, progress, checkpoint = build(tmp_path, best=1.5)
    progress.step = 7
    checkpoint.save(7)
    drawn = [random.random(), np.random.rand(), torch.rand(()).item()]
    other, numbers, again = build(tmp_path)
    assert again.load_latest() == 7
    assert torch.equal(other.weight, model.weight)
    assert (numbers.step, numbers.best) == (7, 1.5)
    assert [random.random(), np.random.rand(), torch.rand(()).item()] == drawn


def test_nothing_to_load_is_step_zero(tmp_path):
    assert build(tmp_path)[2].load_latest() == 0


def test_only_the_newest_are_kept(tmp_path):
    _, _, checkpoint = build(tmp_path)
    for step in (1, 2, 3, 10):
        checkpoint.save(step)
    assert checkpoint.steps() == [3, 10]


@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "missing"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, damage, caplog):
    _, progress, checkpoint = build(tmp_path)
    for progress.step in (1, 2):
        checkpoint.save(progress.step)
    path = tmp_path / "checkpoints" / "00000002" / "model.pt"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncate" else b"")
    _, numbers, again = build(tmp_path)
    assert again.load_latest() == 1
    assert numbers.step == 1
    assert "step 2 is damaged" in caplog.text


def test_all_damaged_is_an_error_and_never_a_fresh_start(tmp_path):
    _, _, checkpoint = build(tmp_path)
    checkpoint.save(1)
    (tmp_path / "checkpoints" / "00000001" / "model.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"all checkpoints in .* are damaged"):
        checkpoint.load_latest()
    (tmp_path / "checkpoints" / "00000001" / "digest.json").unlink()
    with pytest.raises(ValueError, match=r"of step 1 since its digest\.json is missing; put"):
        checkpoint.load_latest()


def test_a_failed_save_keeps_the_older_one_and_says_so(tmp_path, monkeypatch):
    _, _, checkpoint = build(tmp_path)
    checkpoint.save(1)

    def full(state, file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"No space left.*newest checkpoint kept: 1"):
        checkpoint.save(2)
    monkeypatch.undo()
    assert os.listdir(tmp_path / "checkpoints") == ["00000001"]
    assert checkpoint.load_latest() == 1


def test_a_file_with_code_is_refused(tmp_path):
    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    _, _, checkpoint = build(tmp_path)
    checkpoint.save(1)
    folder = tmp_path / "checkpoints" / "00000001"
    torch.save({"step": Canary()}, folder / "progress.pt")
    known = json.loads((folder / "digest.json").read_text())
    known["progress"] = digest(folder / "progress.pt")
    (folder / "digest.json").write_text(json.dumps(known))
    with pytest.raises(ValueError, match="refused: it holds more than tensors"):
        checkpoint.load_latest()
    assert not (tmp_path / "canary").exists()
