"""The command of HANNA: smoke through the real commands, exact resume, two processes, errors."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from prevalent.__main__ import main
from prevalent.config import TINY_MODEL
from prevalent.data.results import read_results
from prevalent.models.hanna import AssistanceConfig
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.optimizer import OptimizerConfig
from prevalent.released.checkpoints import save_model
from prevalent.released.snapshots import load_agent
from prevalent.runtime.checkpoint import Progress
from prevalent.runtime.logs import read_metrics
from prevalent.tasks.hanna import HANNA_PRESETS, helper_of, train_hanna, update_best
from tests.toy_runs import assert_same_modules, run_in_halves, search_run

SMOKE = HANNA_PRESETS["hanna-smoke"][1]
WORDS = replace(SMOKE.model, encoder="words")


def words_of(world, run_dir):
    words = ["hanna-smoke", "--run-dir", str(run_dir), "--world", "matterport", "--device", "cpu"]
    words += ["--data-dir", str(world), "--features", "features.npy"]
    return [*words, "--wordpieces", "wordpiece.txt"]


@pytest.fixture(scope="module")
def trained(toy_world, tmp_path_factory):
    """A run of the real command."""
    run_dir = tmp_path_factory.mktemp("searches")
    with pytest.raises(SystemExit, match="0"):
        main(["train-hanna", *words_of(toy_world, run_dir)])
    return run_dir


def test_the_command_trains_and_keeps_snapshots(trained):
    rows = read_metrics(trained)
    assert {"loss", "navigation", "asking", "requests"} <= rows[0].keys()
    assert {"val_seen_env_unseen_anna/spl", "val_unseen/queries_per_ep"} <= rows[-1].keys()
    found = {path.name for path in (trained / "snapshots").iterdir()}
    best = {"best_val_seen_env_unseen_anna", "best_val_unseen", "best_combined"}
    assert found == {*best, "last"}
    assert (trained / "snapshots/last/vocab.txt").is_file()
    assert (trained / "curve.png").is_file()


def test_a_run_is_evaluated_and_its_results_can_be_scored_again(trained, toy_world):
    words = ["--task", "hanna", "--split", "test_seen_env_unseen_anna"]
    run = ["--run-dir", str(trained), "--snapshot", "last", "--device", "cpu"]
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", *words, *run, "--row", "PREVALENT"])
    record = json.loads((trained / "evaluation_test_seen_env_unseen_anna.json").read_text())
    assert (record["task"], record["split"], record["row"]) == (
        "hanna",
        "test_seen_env_unseen_anna",
        "PREVALENT",
    )
    results = trained / "results_test_seen_env_unseen_anna.json"
    assert read_results(results, "hanna")
    output = trained / "again.json"
    words += ["--results", str(results), "--data-dir", str(toy_world), "--output", str(output)]
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", *words])
    assert json.loads(output.read_text())["scores"] == pytest.approx(record["scores"])


@pytest.mark.parametrize("model", [SMOKE.model, WORDS], ids=["dic", "words"])
def test_a_resumed_run_equals_an_uninterrupted_one_in_mid_epoch(toy_world, tmp_path, model):
    config = search_run(
        toy_world, tmp_path / "whole", batch_size=5, max_steps=7, held_out=(), model=model
    )
    whole = train_hanna(config)
    halves = run_in_halves(train_hanna, replace(config, run_dir=tmp_path / "halves"), 3)
    assert_same_modules(whole.modules, halves.modules)
    records = [tmp_path / name / "metrics.jsonl" for name in ("whole", "halves")]
    assert records[0].read_text() == records[1].read_text()


def test_two_processes_share_out_the_batch_of_one(toy_world, tmp_path):
    """Sampled walks differ between the two, so that only the processes are compared."""
    words = [*words_of(toy_world, tmp_path / "two"), "--max-steps", "2", "--batch-size", "2"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "prevalent", "train-hanna", *words],
            env={**os.environ, **address, "RANK": str(rank), "WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    rows = read_metrics(tmp_path / "two")
    assert "val_unseen/success_rate" in rows[-1]


def test_an_agent_begins_with_pre_trained_text_layers(toy_world, tmp_path):
    vocabulary = (toy_world / "wordpiece.txt").read_text().split()
    model = PrevalentForPretraining(replace(TINY_MODEL, vocab_size=len(vocabulary), image_dim=36))
    save_model(tmp_path / "pretrained", model)
    config = search_run(toy_world, tmp_path / "run", pretrained=tmp_path / "pretrained")
    agent = train_hanna(replace(config, max_steps=1, held_out=()))
    for name in ("nav_module", "ask_module"):
        ours = agent.modules[name].encoder.bert.state_dict()
        assert_same_modules(
            {name: model.bert}, {name: agent.modules[name].encoder.bert}, tolerance=0.0
        )
        assert set(ours) == set(model.bert.state_dict())


def test_an_agent_continues_another_run(toy_world, tmp_path, trained):
    config = search_run(toy_world, tmp_path, start_from=trained, max_steps=1, held_out=())
    still = OptimizerConfig("sgd", lr=1e-12)
    agent = train_hanna(replace(config, optimizer=still))
    other = train_hanna(replace(config, run_dir=tmp_path / "b", start_from=None, optimizer=still))
    load_agent(trained / "snapshots/best_val_unseen", other.modules)
    assert_same_modules(agent.modules, other.modules, tolerance=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": ("train", "val_seen")}, "mixes splits"),
        ({"held_out": ("val",)}, "'val' is none of"),
        ({"words": Path("no.txt"), "model": WORDS}, "prevalent prepare hanna"),
        ({"features": Path("no.npy")}, "--features"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_step(toy_world, tmp_path, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train_hanna(search_run(toy_world, tmp_path, **changes))


def test_snapshots_are_kept_by_spl_of_a_split_and_of_all_tasks():
    progress, held_out = Progress(), {"a": [1], "b": [1, 2, 3]}
    scores = {"a/spl": 0.8, "b/spl": 0.2, "a/success_rate": 1.0}
    assert update_best(progress, scores, held_out) == ["best_a", "best_b", "best_combined"]
    assert progress.best_combined == pytest.approx(0.35)
    better = {"a/spl": 0.1, "b/spl": 0.5}
    assert update_best(progress, better, held_out) == ["best_b", "best_combined"]
    assert update_best(progress, {}, held_out) == []


def test_the_helping_routes_belong_to_the_training_splits():
    assert helper_of(("train",)) == "train_seen"
    assert helper_of(("val_seen_env_seen_anna", "train")) == "train_seen"
    assert AssistanceConfig().reset == "batch"
