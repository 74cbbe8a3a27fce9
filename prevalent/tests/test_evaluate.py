"""The command scores result files of the three tasks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from prevalent.__main__ import main
from prevalent.evaluate import EvaluateConfig, SubmitConfig, evaluate, main_baseline, submit
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


def prepare(folder, walk):
    write_connectivity(folder / "connectivity", "house", make_scan())
    item = {"path_id": 7, "scan": "house", "heading": 0.0, "path": ["a"], "instructions": ["go"]}
    (folder / "r2r").mkdir()
    (folder / "r2r" / "R2R_test.json").write_text(json.dumps([item]))
    results = [{"instr_id": "7_0", "trajectory": [[v, 0.0, 0.0] for v in walk], "score": 1}]
    (folder / "results.json").write_text(json.dumps(results))
    return SubmitConfig(results=folder / "results.json", data_dir=folder)


def test_a_good_file_is_written_without_extra_fields(tmp_path):
    path = submit(prepare(tmp_path, "abc"))
    assert path == tmp_path / "submit_test.json"
    assert set(json.loads(path.read_text())[0]) == {"instr_id", "trajectory"}


def test_a_file_for_the_leaderboard_is_not_written_over_the_walks(tmp_path):
    config = prepare(tmp_path, "abc")
    before = config.results.read_text()
    with pytest.raises(ValueError, match=r"results\.json is the file that is read"):
        submit(replace(config, output=tmp_path / "results.json"))
    assert config.results.read_text() == before


def test_a_teleport_is_refused_and_nothing_written(tmp_path):
    config = prepare(tmp_path, "ac")
    with pytest.raises(ValueError, match="'7_0' jumps at step 1"):
        submit(config)
    assert not (tmp_path / "submit_test.json").exists()


@pytest.fixture
def tasks_world(tmp_path):
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
def test_every_agent_walks_every_task(tasks_world, task, agent, capsys):
    output = tasks_world / "out" / "results.json"
    options = ["--data-dir", str(tasks_world), "--split", "val", "--task", task]
    main_baseline([*options, "--agent", agent, "--output", str(output)])
    assert f"{agent}, {task} val: 1 walks a seed" in capsys.readouterr().out
    scores = evaluate(EvaluateConfig(results=output, split="val", task=task, data_dir=tasks_world))
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


def test_files_of_a_split_whose_goals_are_hidden_are_not_scored(tmp_path):
    results = prepare(tmp_path, "a").results
    output = tmp_path / "out" / "evaluation.json"
    for split in ("test", str(tmp_path / "r2r" / "R2R_test.json"), "test@1"):
        options = {"results": results, "split": split, "data_dir": tmp_path, "output": output}
        with pytest.raises(ValueError, match=r"7_0 .*no goals to score against.*prevalent submit"):
            evaluate(EvaluateConfig(**options))
    assert not output.exists()


def test_a_hidden_split_under_another_name_is_walked_without_scores(tmp_path, capsys):
    split = str(prepare(tmp_path, "a").data_dir / "r2r" / "R2R_test.json")
    main_baseline(["--agent", "stop", "--split", split, "--data-dir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "1 walks a seed" in printed
    assert "success_rate" not in printed


@pytest.mark.parametrize("beam", ["-3", "2"])
def test_a_search_for_a_file_is_refused_before_anything_is_written(tmp_path, beam, capsys):
    prepare(tmp_path, "abc")
    before = sorted(tmp_path.rglob("*"))
    words = ["submit", "--results", str(tmp_path / "results.json"), "--data-dir", str(tmp_path)]
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--beam", beam])
    assert "--beam" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_two_names_of_the_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--step or --snapshot, not both"):
        EvaluateConfig(run_dir=tmp_path, step=2, snapshot="last")


def test_a_negative_beam_of_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--beam must not be negative, got -3"):
        SubmitConfig(run_dir=tmp_path, beam=-3)


def test_a_part_of_a_split_is_a_trial_and_leaves_the_whole(world):
    output = world / "runs" / "evaluation.json"
    options = {"split": "val", "data_dir": world, "row": "PREVALENT", "output": output}
    evaluate(EvaluateConfig(results=world / "results.json", **options))
    whole = output.read_bytes()
    known = json.loads(whole)["provenance"]
    assert (known["items"], known["left_out"], known["trial"]) == (2, 0, False)
    one = json.loads((world / "results.json").read_text())[:1]
    (world / "one.json").write_text(json.dumps(one))
    evaluate(EvaluateConfig(results=world / "one.json", allow_missing=True, **options))
    assert output.read_bytes() == whole
    known = json.loads((world / "runs/evaluation.trial.json").read_text())["provenance"]
    assert (known["items"], known["left_out"], known["trial"]) == (1, 1, True)


def test_turns_count_in_dtw_on_request(world):
    walks = json.loads((world / "results.json").read_text())
    walks[0]["trajectory"] = [[v, 0.0, 0.0] for v in "aaabbc"]
    (world / "results.json").write_text(json.dumps(walks))
    options = {"results": world / "results.json", "split": "val", "data_dir": world}
    output = world / "evaluation.json"
    places = evaluate(EvaluateConfig(**options))
    turns = evaluate(EvaluateConfig(**options, count_turns=True, output=output))
    assert turns["sdtw"] == places["sdtw"] == 0.5  # a walk along its path, however often it turns
    walks[0]["trajectory"] = [[v, 0.0, 0.0] for v in "addddabc"]
    (world / "results.json").write_text(json.dumps(walks))
    assert evaluate(EvaluateConfig(**options)) != evaluate(
        EvaluateConfig(**options, count_turns=True)
    )
    assert json.loads(output.read_text())["provenance"]["settings"] == {"count_turns": True}
