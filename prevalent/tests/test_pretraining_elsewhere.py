"""The script that takes pre-training to dialogs, searches and real paths runs to its table."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from prevalent.config import READING_MODEL
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.released.checkpoints import save_model

EVIDENCE = Path(__file__).parents[1] / "evidence"
SMALL = ["--houses", "1", "--size", "3", "--steps", "1", "--seeds", "0"]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(EVIDENCE))
    path = EVIDENCE / "pretraining_elsewhere.py"
    spec = importlib.util.spec_from_file_location("pretraining_elsewhere", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("task", ["ndh", "hanna"])
def test_agents_with_and_without_the_encoder_are_compared(script, task, tmp_path, capsys):
    arms = ["--arms", "from scratch", "pre-trained, frozen"]
    arguments = ["--run-dir", str(tmp_path), "--task", task, *SMALL]
    script.main([*arguments, *arms[:2]])
    words = (tmp_path / "tasks" / "world" / "wordpiece.txt").read_text().splitlines()
    sizes = replace(READING_MODEL, vocab_size=len(words), image_dim=64)
    save_model(tmp_path / "pretrain" / "model", PrevalentForPretraining(sizes))
    script.main([*arguments, *arms])
    rows = [row.split(" | ") for row in (tmp_path / f"{task}.md").read_text().splitlines()[2:]]
    assert [row[0] for row in rows] == ["| from scratch", "| pre-trained, frozen"]
    assert {len(row) for row in rows} == {5}
    assert len(list(tmp_path.rglob("scores.json"))) == 2  # the first agent was not trained again
