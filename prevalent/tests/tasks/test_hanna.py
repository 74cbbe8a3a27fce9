"""HANNA: the real commands, ANNA's routes, options, snapshots, errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from prevalent.__main__ import main
from prevalent.agents.hanna import HannaRolloutConfig
from prevalent.config import TINY_MODEL
from prevalent.data.results import read_results
from prevalent.loop import RunProgress
from prevalent.models.hanna import HannaConfig
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.optimizer import OptimizerConfig
from prevalent.released.checkpoints import save_model
from prevalent.released.snapshots import load_agent
from prevalent.runs import open_run
from prevalent.runtime.logs import read_metrics
from prevalent.tasks.hanna import (
    HANNA_PRESETS,
    HannaRun,
    HannaTraining,
    helper_of,
    open_agent,
    score_walks,
    train_hanna,
    walk_split,
)
from tests.small_hanna import make_agent, make_tasks
from tests.toy_runs import (
    assert_same_modules,
    hanna_run,
    train_in_two_processes,
)

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


def test_two_processes_share_out_the_batch_of_one(toy_world, tmp_path):
    """Sampled walks differ between the two, so that only the processes are compared."""
    words = [*words_of(toy_world, tmp_path / "two"), "--max-steps", "2", "--batch-size", "4"]
    train_in_two_processes(["train-hanna", *words])
    rows = read_metrics(tmp_path / "two")
    assert "val_unseen/success_rate" in rows[-1]


def test_an_agent_begins_with_pre_trained_text_layers(toy_world, tmp_path):
    vocabulary = (toy_world / "wordpiece.txt").read_text().split()
    model = PrevalentForPretraining(replace(TINY_MODEL, vocab_size=len(vocabulary), image_dim=36))
    save_model(tmp_path / "pretrained", model)
    config = hanna_run(toy_world, tmp_path / "run", pretrained=tmp_path / "pretrained")
    agent = train_hanna(replace(config, max_steps=1, held_out=()))
    for name in ("nav_module", "ask_module"):
        ours = agent.modules[name].encoder.bert.state_dict()
        assert_same_modules(
            {name: model.bert}, {name: agent.modules[name].encoder.bert}, tolerance=0.0
        )
        assert set(ours) == set(model.bert.state_dict())


def test_an_agent_continues_another_run(toy_world, tmp_path, trained):
    config = hanna_run(toy_world, tmp_path, start_from=trained, max_steps=1, held_out=())
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
        train_hanna(hanna_run(toy_world, tmp_path, **changes))


def test_snapshots_are_kept_by_spl_of_a_split_and_of_all_tasks():
    run = SimpleNamespace(held_out={"a": [1], "b": [1, 2, 3]})
    progress = RunProgress()

    def improve(scores):
        return progress.improve(HannaTraining.goals(run, scores))

    assert improve({"a/spl": 0.8, "b/spl": 0.2}) == ["best_combined", "best_a", "best_b"]
    assert progress.best["best_combined"] == pytest.approx(0.35)
    assert improve({"a/spl": 0.1, "b/spl": 0.5}) == ["best_combined", "best_b"]
    assert improve({}) == []


def test_the_helping_routes_belong_to_the_training_splits():
    assert helper_of(("train",)) == "train_seen"
    assert helper_of(("val_seen_env_seen_anna", "train")) == "train_seen"
    assert HannaConfig().reset == "batch"


def test_a_saved_agent_walks_like_the_one_that_was_saved(toy_world, tmp_path):
    agent = train_hanna(hanna_run(toy_world, tmp_path, max_steps=1))
    again = open_agent(open_run(tmp_path), "val_unseen", snapshot="last", device="cpu")
    tasks = again.tasks
    assert agent.act([tasks], "val") == again.agent.act([tasks], "val")


def test_an_encoder_that_does_not_fit_is_refused(toy_world, tmp_path):
    for changes, sentence in (
        ({"vocab_size": 9}, "knows 9 word pieces"),
        ({"max_positions": 9}, "exceeds the 9 positions"),
    ):
        words = len((toy_world / "wordpiece.txt").read_text().split())
        sizes = replace(TINY_MODEL, **{"vocab_size": words, **changes})
        save_model(tmp_path / "model", PrevalentForPretraining(sizes))
        with pytest.raises(ValueError, match=sentence):
            train_hanna(hanna_run(toy_world, tmp_path / "run", pretrained=tmp_path / "model"))
        assert not (tmp_path / "run").exists()


def test_a_split_is_searched_in_order_whatever_the_batches():
    agent = make_agent(reset="own")
    tasks = make_tasks(agent.environment.graphs, 5)
    results = walk_split(agent, tasks, "train", 2)
    assert list(results) == [task.id for task in tasks]
    assert results == walk_split(agent, tasks, "train", 5)
    scores = score_walks(results, tasks, agent.environment.graphs)
    assert 0 <= scores["spl"] <= scores["success_rate"] <= 1


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (HannaConfig, {"hidden_size": 10, "num_heads": 4}, "--model.hidden-size 10"),
        (HannaConfig, {"num_layers": 0}, "--model.num-layers"),
        (HannaConfig, {"dropout": 1.0}, "dropout probabilities"),
        (HannaConfig, {"angle_size": 6}, "multiple of 4"),
        (HannaRolloutConfig, {"train_length": 0}, "--rollout.train-length"),
        (HannaRolloutConfig, {"ask_every": 0}, "--rollout.ask-every"),
        (HannaRolloutConfig, {"ask_probability": 1.5}, "--rollout.ask-probability"),
        (HannaRolloutConfig, {"curiosity": -1.0}, "--rollout.curiosity"),
    ],
)
def test_an_impossible_option_is_named(kind, change, message):
    with pytest.raises(ValueError, match=message):
        kind(**change)


def test_a_pre_trained_encoder_needs_the_encoder_that_can_hold_it():
    with pytest.raises(ValueError, match=r"--pretrained needs --model\.encoder dic"):
        HannaRun(pretrained=Path("runs/pretrain/base/model"))
    HannaRun(pretrained=Path("model"), model=HannaConfig(encoder="dic"))


def test_an_optimizer_state_is_not_taken_from_elsewhere():
    with pytest.raises(ValueError, match="--load-optimizer"):
        HannaRun(load_optimizer=True)


def test_the_base_agent_is_trained_as_published():
    anna = HANNA_PRESETS["anna"][1]
    assert (anna.batch_size, anna.max_steps, anna.max_length) == (32, 30_000, 50)
    assert (anna.optimizer.lr, anna.optimizer.weight_decay) == (1e-4, 5e-4)
    assert (anna.model.hidden_size, anna.model.num_heads, anna.model.reset) == (256, 8, "batch")
    assert (anna.rollout.train_length, anna.rollout.eval_length) == (20, 50)
    assert HANNA_PRESETS["prevalent"][1].model.encoder == "dic"
