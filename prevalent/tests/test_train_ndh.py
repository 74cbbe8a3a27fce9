"""The command of NDH: smoke through the real commands, exact resume, two processes, errors."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import fields, replace

import pytest
import torch

from prevalent.__main__ import main
from prevalent.agents.ndh import DialogConfig
from prevalent.config import TINY_MODEL
from prevalent.data.results import read_results
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.optimizer import OptimizerConfig
from prevalent.released.checkpoints import save_model
from prevalent.released.snapshots import load_agent
from prevalent.runtime.checkpoint import Progress
from prevalent.runtime.logs import read_metrics
from prevalent.tasks.ndh import NDH_PRESETS, WORDS, NDHRun, feedback_of, train_ndh, update_best
from tests.toy_runs import assert_same_modules, dialog_run, run_in_halves

SEQ2SEQ = DialogConfig(
    encoder="lstm", actions="low-level", hidden_size=8, word_size=6, angle_size=4
)
STILL = {"dropout": 0.0, "encoder_dropout": 0.0}
TINY = replace(TINY_MODEL, max_positions=300)


def words_of(world, run_dir):
    words = ["ndh-smoke", "--run-dir", str(run_dir), "--world", "matterport", "--device", "cpu"]
    words += ["--data-dir", str(world), "--features", "features.npy"]
    return [*words, "--wordpieces", "wordpiece.txt"]


@pytest.fixture(scope="module")
def trained(toy_world, tmp_path_factory):
    """A run of the real command."""
    run_dir = tmp_path_factory.mktemp("dialogs")
    with pytest.raises(SystemExit, match="0"):
        main(["train-ndh", *words_of(toy_world, run_dir)])
    return run_dir


def test_the_command_trains_and_keeps_snapshots(trained):
    rows = read_metrics(trained)
    assert {"loss", "action_loss", "actions", "encoder_norm"} <= rows[0].keys()
    assert {"val_seen/dist_to_end_reduction", "val_unseen/success_rate"} <= rows[-1].keys()
    found = {path.name for path in (trained / "snapshots").iterdir()}
    best = {
        f"best_{split}{kind}" for split in ("val_seen", "val_unseen") for kind in ("", "_progress")
    }
    assert found == {*best, "last"}
    assert (trained / "snapshots/last/vocab.txt").is_file()


def test_a_run_is_evaluated_under_every_path_type(trained, capsys):
    words = ["evaluate", "--task", "ndh", "--run-dir", str(trained), "--device", "cpu"]
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--snapshot", "last", "--row", "PREVALENT"])
    printed = capsys.readouterr().out
    assert all(f"{name}_path" in printed for name in ("planner", "player", "trusted"))
    record = json.loads((trained / "evaluation_val_unseen.json").read_text())
    assert record["path_type"] == "trusted_path"
    assert {"dist_to_end_reduction", "spl"} <= record["scores"].keys()
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--split", "test"])
    assert "has no goals to score against" in capsys.readouterr().err


def test_a_run_is_submitted(trained, toy_world):
    with pytest.raises(SystemExit, match="0"):
        main(["submit", "--task", "ndh", "--run-dir", str(trained), "--device", "cpu"])
    results = read_results(trained / "submit_test.json", "ndh")
    items = json.loads((toy_world / "ndh/test.json").read_text())
    assert set(results) == {str(item["inst_idx"]) for item in items}


@pytest.mark.parametrize("model", [None, SEQ2SEQ], ids=["dic", "seq2seq"])
def test_a_resumed_run_equals_an_uninterrupted_one_in_mid_epoch(toy_world, tmp_path, model):
    config = dialog_run(toy_world, tmp_path / "whole", batch_size=5, max_steps=7, held_out=())
    if model is not None:
        config = replace(config, model=model, feedback="sample")
    whole = train_ndh(config)
    halves = run_in_halves(train_ndh, replace(config, run_dir=tmp_path / "halves"), 3)
    assert_same_modules(whole.modules, halves.modules)
    records = [tmp_path / name / "metrics.jsonl" for name in ("whole", "halves")]
    assert records[0].read_text() == records[1].read_text()


def test_two_processes_equal_one(toy_world, tmp_path):
    words = [*words_of(toy_world, tmp_path / "two"), "--max-steps", "2", "--eval-every", "2"]
    words += ["--feedback", "teacher", "--bert.dropout", "0", "--bert.attention-dropout", "0"]
    words += ["--optimizer.kind", "sgd", "--optimizer.lr", "0.01", "--batch-size", "2"]
    for name in STILL:
        words += [f"--model.{name.replace('_', '-')}", "0"]
    one = train_ndh(
        dialog_run(
            toy_world,
            tmp_path / "one",
            batch_size=4,
            max_steps=2,
            feedback="teacher",
            optimizer=OptimizerConfig("sgd", lr=0.01),
            model=replace(NDH_PRESETS["ndh-smoke"][1].model, **STILL),
            bert=replace(TINY, dropout=0.0, attention_dropout=0.0),
        )
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "prevalent", "train-ndh", *words],
            env={**os.environ, **address, "RANK": str(rank), "WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    before = {
        name: {key: value.clone() for key, value in module.state_dict().items()}
        for name, module in one.modules.items()
    }
    load_agent(tmp_path / "two/snapshots/last", one.modules)
    for name, module in one.modules.items():
        for key, value in module.state_dict().items():
            assert value.allclose(before[name][key], rtol=1e-4, atol=1e-5), f"{name}.{key}"


@pytest.mark.parametrize(
    "changes",
    [
        {"feedback": "argmax", "history": "none"},
        {"feedback": "teacher", "history": "target", "path_type": "player_path", "tags": "whole"},
        {"model": replace(SEQ2SEQ, actions="panoramic"), "history": "nav_q_oracle_ans"},
        {"precision": "bf16", "history": "oracle_ans", "path_type": "planner_path"},
    ],
    ids=["argmax", "teacher", "words, panoramic", "bf16"],
)
def test_variants_take_steps(toy_world, tmp_path, changes):
    train_ndh(dialog_run(toy_world, tmp_path, max_steps=2, held_out=(), **changes))
    assert "loss" in read_metrics(tmp_path)[-1]


def test_a_pre_trained_encoder_gets_rows_for_the_tags(toy_world, tmp_path):
    words = (toy_world / "wordpiece.txt").read_text().splitlines()
    model = PrevalentForPretraining(replace(TINY, vocab_size=len(words), image_dim=36))
    save_model(tmp_path / "fits", model)
    config = dialog_run(toy_world, tmp_path / "a", pretrained=tmp_path / "fits", held_out=())
    frozen = replace(config.model, update_cross=False)
    agent = train_ndh(replace(config, max_steps=1, model=frozen))
    ours, theirs = agent.modules["encoder"].bert.state_dict(), model.bert.state_dict()
    assert len(ours[WORDS]) == len(words) + 3
    assert torch.equal(ours.pop(WORDS)[: len(words)], theirs.pop(WORDS))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    save_model(tmp_path / "odd", PrevalentForPretraining(replace(model.config, vocab_size=99)))
    with pytest.raises(ValueError, match=f"knows 99 word pieces.*has {len(words)}"):
        train_ndh(replace(config, run_dir=tmp_path / "b", pretrained=tmp_path / "odd"))


def test_the_authors_two_files_start_a_run(toy_world, tmp_path, trained):
    config = dialog_run(toy_world, tmp_path / "a", held_out=(), max_steps=1)
    agent = train_ndh(replace(config, start_from=trained))
    for name, module in agent.modules.items():
        torch.save(module.state_dict(), tmp_path / f"run_{name[:3]}_iter_100")
    again = replace(config, run_dir=tmp_path / "b", start_from=tmp_path / "run_enc_iter_100")
    train_ndh(again)
    (tmp_path / "run_dec_iter_100").unlink()
    with pytest.raises(FileNotFoundError, match="run_dec_iter_100 does not exist"):
        train_ndh(replace(again, run_dir=tmp_path / "c"))


def test_what_is_missing_or_does_not_fit_is_one_sentence(toy_world, tmp_path, trained, capsys):
    base = ["train-ndh", *words_of(toy_world, tmp_path)]
    for words, message in (
        (["--model.hidden-size", "10", "--start-from", str(trained)], "a hidden size of 8"),
        (["--train", "./no_such_dialogs.json"], "no_such_dialogs.json does not exist"),
        (["--train", "test"], "dialogs without paths"),
        (["--features", "no_such.tsv"], "no_such.tsv does not exist"),
        (["--start-from", str(tmp_path / "nowhere")], "holds no agent"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([*base, *words])
        printed = capsys.readouterr().err.splitlines()[-1]
        assert message in printed
        assert printed.count(". ") == 0


def test_mixed_feedback_is_drawn_for_every_action_from_the_step_alone():
    config = NDH_PRESETS["prevalent-mixed"][1]
    steps = [feedback_of(config, 40, step) for step in range(50)]
    assert steps == [feedback_of(config, 40, step) for step in range(50)]
    share = sum(one == "sample" for step in steps for one in step) / (50 * 40)
    assert share == pytest.approx(config.sample_ratio, abs=0.03)
    assert feedback_of(replace(config, feedback="argmax"), 40, 0) == "argmax"


def test_the_best_agents_are_kept_by_success_and_by_goal_progress():
    progress = Progress()
    scores = {"val_unseen/success_rate": 0.4, "val_unseen/dist_to_end_reduction": -1.0}
    assert update_best(progress, scores) == ["best_val_unseen", "best_val_unseen_progress"]
    scores["val_unseen/dist_to_end_reduction"] = -0.5
    assert update_best(progress, scores) == ["best_val_unseen_progress"]


def test_the_options_are_not_too_many():
    assert len(fields(NDHRun)) <= 35
