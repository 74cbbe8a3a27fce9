"""The script of the claim runs from its worlds to its tables, and goes on where it was."""

import importlib.util
import sys
from pathlib import Path

import pytest

from prevalent.data.instructions import read_paths

SCRIPT = Path(__file__).parents[1] / "evidence" / "pretraining_claim.py"
SMALL = ["--houses", "2", "--pretrain-steps", "2", "--steps", "4", "--sizes", "3", "--seeds", "0"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pretraining_claim", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_table_is_made_from_nothing_and_not_twice(script, tmp_path, capsys, monkeypatch):
    arms = {
        "from scratch": script.Arm("", (True,), rates=(1e-3, 3e-3)),
        "two stages": script.Arm("pretrain-words-alone", (False, True)),
    }
    monkeypatch.setattr(script, "ARMS", arms)
    monkeypatch.setattr(script, "TRIAL_SEEDS", (0,))
    chart = tmp_path / "chart.png"
    arguments = [*SMALL, "--run-dir", str(tmp_path), "--table", "reading", "--chart", str(chart)]
    script.main(arguments)
    written = (tmp_path / "reading" / "reading.md").read_text()
    rows = [row.split(" | ") for row in written.splitlines()[2:]]
    assert [row[1] for row in rows] == list(arms)
    assert {len(row[4].split(",")) for row in rows} == {4}  # evaluations of a run
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("scores.json")}
    assert len(files) == 4  # two rates, then one agent of each arm
    assert chart.is_file()
    capsys.readouterr()
    script.main(arguments)
    assert written in capsys.readouterr().out
    assert files == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("scores.json")}


def test_seeds_draw_their_own_paths_and_sizes_contain_each_other(script, tmp_path):
    small = script.replace(script.PLAIN, train_houses=2, unseen_houses=1)
    script.make_world(tmp_path / "world", small)
    ids = {
        (size, seed): {
            item["path_id"] for item in read_paths("", str(script.annotated(tmp_path, size, seed)))
        }
        for size in (3, 8)
        for seed in (0, 1)
    }
    assert ids[3, 0] < ids[8, 0]
    assert ids[3, 1] < ids[8, 1]
    assert ids[8, 0] != ids[8, 1]
