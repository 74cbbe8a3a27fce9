"""The command scores result files of the three tasks."""

import json

import pytest

from prevalent.__main__ import main
from prevalent.evaluate import EvaluateConfig, evaluate
from tests.factories import make_scan, write_connectivity

TOLERANCE = 5e-4


@pytest.fixture
def world(tmp_path):
    """A square a - b - c - d of 2 m sides with one path and three results."""
    write_connectivity(tmp_path / "connectivity", "house", make_scan())
    item = {"path_id": 1, "scan": "house", "heading": 0.0, "path": ["a", "b", "c"]}
    (tmp_path / "r2r").mkdir()
    (tmp_path / "r2r" / "R2R_val.json").write_text(
        json.dumps([item | {"instructions": ["go", "walk"]}])
    )
    walks = {"1_0": ["a", "b", "c"], "1_1": ["a"]}
    results = [
        {"instr_id": name, "trajectory": [[v, 0.0, 0.0] for v in walk]}
        for name, walk in walks.items()
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path


def test_half_of_the_walks_succeed(world):
    config = EvaluateConfig(results=world / "results.json", split="val", data_dir=world)
    scores = evaluate(config)
    assert scores["success_rate"] == 0.5
    assert scores["spl"] == 0.5
    assert scores["steps"] == 1


def test_the_command_prints_and_records(world, capsys):
    output = world / "runs" / "evaluation.json"
    command = ["evaluate", "--results", str(world / "results.json"), "--split", "val"]
    command += ["--data-dir", str(world), "--row", "PREVALENT", "--output", str(output)]
    with pytest.raises(SystemExit, match="0"):
        main(command)
    assert "success_rate" in capsys.readouterr().out
    assert json.loads(output.read_text())["scores"]["success_rate"] == 0.5


def test_a_split_that_is_missing_is_one_sentence(world, capsys):
    command = ["evaluate", "--results", str(world / "results.json"), "--data-dir", str(world)]
    with pytest.raises(SystemExit, match="2"):
        main(command)
    printed = capsys.readouterr().err
    assert "R2R_val_unseen.json" in printed
    assert printed.count("\n") == 1


def test_a_published_agents_file_has_its_published_scores(data_dir):
    results = data_dir / "r2r" / "predictions" / "val_seen_seq2seq.json"
    scores = evaluate(EvaluateConfig(results=results, split="val_seen", data_dir=data_dir))
    expected = {"lengths": 10.304, "nav_error": 3.316, "success_rate": 0.6611}
    expected |= {"oracle_rate": 0.7258, "spl": 0.6307}
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=TOLERANCE)
