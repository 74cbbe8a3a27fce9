"""Agents that do not learn write result files that can be scored."""

import json

import pytest

from prevalent.evaluate import EvaluateConfig, evaluate, main_baseline
from tests.factories import make_scan, write_connectivity


@pytest.fixture
def world(tmp_path):
    """A square a - b - c - d with one task of each kind from a to c."""
    write_connectivity(tmp_path / "connectivity", "house", make_scan())
    path = ["a", "b", "c"]
    items = {
        "r2r/R2R_val.json": {
            "path_id": 1, "scan": "house", "heading": 0.5, "path": path, "instructions": ["go"],
        },
        "ndh/val.json": {
            "inst_idx": 1, "scan": "house", "start_pano": {"heading": 0.5, "pano": "a"},
            "planner_path": path, "player_path": path, "end_panos": ["c"],
        },
        "hanna/hanna_val.json": {
            "path_id": 1, "scan": "house", "heading": 0.5, "paths": [path], "instructions": ["go"],
        },
    }  # fmt: skip
    for name, item in items.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(json.dumps([item]))
    return tmp_path


@pytest.mark.parametrize("task", ["r2r", "ndh", "hanna"])
@pytest.mark.parametrize("agent", ["random", "stop", "forward", "shortest"])
def test_every_agent_walks_every_task(world, task, agent, capsys):
    output = world / "out" / "results.json"
    options = ["--data-dir", str(world), "--split", "val", "--task", task]
    main_baseline([*options, "--agent", agent, "--output", str(output)])
    assert f"{agent}, {task} val: 1 walks a seed" in capsys.readouterr().out
    scores = evaluate(EvaluateConfig(results=output, split="val", task=task, data_dir=world))
    if agent == "shortest":
        assert scores["success_rate"] == scores["spl"] == 1
    if agent == "stop":
        assert scores["success_rate"] == 0


def test_a_test_split_of_dialogs_is_walked_without_scores(toy_world, tmp_path, capsys):
    output = tmp_path / "random.json"
    options = ["--data-dir", str(toy_world), "--task", "ndh", "--split", "test"]
    main_baseline([*options, "--agent", "random", "--output", str(output)])
    assert "walks a seed" in capsys.readouterr().out
    with pytest.raises(ValueError, match="has no goals to score against"):
        evaluate(EvaluateConfig(results=output, split="test", task="ndh", data_dir=toy_world))


def test_real_shortest_paths_reach_every_goal(data_dir, tmp_path):
    output = tmp_path / "shortest.json"
    main_baseline(["--data-dir", str(data_dir), "--split", "val_seen", "--agent", "shortest",
          "--output", str(output)])  # fmt: skip
    scores = evaluate(EvaluateConfig(results=output, split="val_seen", data_dir=data_dir))
    assert scores["success_rate"] == scores["spl"] == 1
