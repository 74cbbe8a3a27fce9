"""The script of the graph-based agent's tables runs to its table, and goes on where it was."""

import importlib.util
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from prevalent.config import READING_MODEL
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.released.checkpoints import save_model

EVIDENCE = Path(__file__).parents[1] / "evidence"
SMALL = ["--steps", "1", "--seeds", "0", "--rates", "1e-3"]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(EVIDENCE))
    spec = importlib.util.spec_from_file_location("graph_agent", EVIDENCE / "graph_agent.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def rows_of(file):
    return [row.split(" | ")[0].strip("| ") for row in file.read_text().splitlines()[2:]]


@pytest.mark.slow
def test_agents_with_and_without_the_encoder_are_compared_in_toy_houses(script, tmp_path, capsys):
    claim = sys.modules["pretraining_claim"]
    world = tmp_path / "world"
    claim.make_world(world, replace(claim.PLAIN, train_houses=2, unseen_houses=1))
    arguments = ["--run-dir", str(tmp_path), "--paths", "3", *SMALL]
    with pytest.raises(SystemExit):
        script.main(arguments)
    assert "has no pre-trained encoder; run" in capsys.readouterr().err
    words = (world / "wordpiece.txt").read_text().splitlines()
    sizes = replace(READING_MODEL, vocab_size=len(words), image_dim=64)
    save_model(tmp_path / "pretrain" / "model", PrevalentForPretraining(sizes))
    script.main(arguments)
    assert "from scratch: rate 0.001 init" in capsys.readouterr().out  # one of two was chosen
    names = rows_of(tmp_path / "graph" / "toy.md")
    assert [name.partition(", rate")[0] for name in names] == list(script.TABLES["toy"])
    done = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("scores.json")}
    assert len(done) == 3
    script.main(arguments)
    assert done == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("scores.json")}


@pytest.mark.slow
def test_both_agents_are_compared_on_stand_in_features(script, toy_world, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(toy_world, data)
    (data / "vocab" / "bert").mkdir(parents=True)
    shutil.copy(data / "wordpiece.txt", data / "vocab/bert/bert-base-uncased-vocab.txt")
    script.main(["--run-dir", str(tmp_path), "--table", "r2r", "--data-dir", str(data), *SMALL])
    names = rows_of(tmp_path / "graph" / "r2r.md")
    assert [name.partition(", rate")[0] for name in names] == ["follower", "graph-based"]
