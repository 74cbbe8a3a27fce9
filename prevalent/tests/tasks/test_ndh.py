"""Navigation from Dialog History: the real commands, path types, options, snapshots, errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prevalent.__main__ import main
from prevalent.agents.ndh import NDHConfig, NDHRolloutConfig
from prevalent.config import TINY_MODEL
from prevalent.data.results import read_results
from prevalent.loop import RunProgress
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.released.checkpoints import save_model
from prevalent.runs import open_run
from prevalent.runtime.distributed import World
from prevalent.runtime.logs import read_metrics
from prevalent.tasks.navigation import WORDS, extend_vocabulary, walk_split
from prevalent.tasks.ndh import (
    NDH_PRESETS,
    NDHRun,
    NDHTraining,
    feedback_of,
    open_agent,
    open_dialogs,
    score_walks,
    train_ndh,
    walk_agent,
)
from tests.small_agents import make_bert
from tests.tasks.test_every_task import SEQ2SEQ
from tests.toy_runs import (
    assert_same_modules,
    ndh_run,
)

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
    train_ndh(ndh_run(toy_world, tmp_path, max_steps=2, held_out=(), **changes))
    assert "loss" in read_metrics(tmp_path)[-1]


def test_a_pre_trained_encoder_gets_rows_for_the_tags(toy_world, tmp_path):
    words = (toy_world / "wordpiece.txt").read_text().splitlines()
    model = PrevalentForPretraining(replace(TINY, vocab_size=len(words), image_dim=36))
    save_model(tmp_path / "fits", model)
    config = ndh_run(toy_world, tmp_path / "a", pretrained=tmp_path / "fits", held_out=())
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
    config = ndh_run(toy_world, tmp_path / "a", held_out=(), max_steps=1)
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
    progress = RunProgress()
    scores = {"val_unseen/success_rate": 0.4, "val_unseen/dist_to_end_reduction": -1.0}
    better = progress.improve(NDHTraining.goals(None, scores))
    assert better == ["best_val_unseen", "best_val_unseen_progress"]
    scores["val_unseen/dist_to_end_reduction"] = -0.5
    better = progress.improve(NDHTraining.goals(None, scores))
    assert better == ["best_val_unseen_progress"]


@pytest.mark.parametrize("model", [None, SEQ2SEQ], ids=["dic", "seq2seq"])
def test_an_agent_read_back_walks_as_before(toy_world, tmp_path, model):
    config = ndh_run(toy_world, tmp_path, max_steps=1)
    agent = train_ndh(config if model is None else replace(config, model=model))
    again = open_agent(open_run(tmp_path), "val_unseen@4", snapshot="last", device="cpu")
    assert_same_modules(agent.modules, again.agent.modules)
    first, second = (walk_split(one, again.episodes, 3, task="ndh") for one in (agent, again.agent))
    assert first == second


def test_a_split_without_dialogs_is_refused(toy_world, tmp_path):
    config = ndh_run(toy_world, tmp_path)
    with pytest.raises(ValueError, match="'val_seen@0': '0' after @ must be a whole number from 1"):
        open_dialogs(config, ["val_seen@0"], torch.device("cpu"))


def test_new_words_change_nothing_for_known_ones():
    bert = make_bert(dropout=0.0, attention_dropout=0.0)
    wider = extend_vocabulary(bert, bert.config.vocab_size + 3)
    ids = torch.tensor([[1, 4, 2, 0]])
    torch.testing.assert_close(wider(ids).sequence, bert(ids).sequence)
    assert wider(ids + 8).sequence.isfinite().all()


def test_a_run_is_opened_and_walked_whatever_the_batch(toy_world, tmp_path):
    train_ndh(ndh_run(toy_world, tmp_path, max_steps=1, model=SEQ2SEQ))
    trained = open_agent(open_run(tmp_path), "val_unseen@5", device="cpu")
    agent, data, episodes, config, step = trained
    assert (config.path_type, step) == ("trusted_path", 1)
    results = walk_agent(trained, 2).results
    assert list(results) == [one.id for one in episodes.instructions]
    alone = World(0, 1, agent.features.device)
    assert walk_split(agent, episodes, 5, alone, "ndh") == results
    progress = {
        path_type: score_walks(results, episodes, data.graphs, path_type)
        for path_type in ("planner_path", "player_path", "trusted_path")
    }
    assert len({row["dist_to_end_reduction"] for row in progress.values()}) == 1


SEQ2SEQ_OF_THE_PAPER = NDHConfig(encoder="lstm", actions="low-level")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NDHConfig(actions="low-level"), "goes with --model.encoder lstm"),
        (lambda: NDHConfig(view_stride=0), "--model.view-stride must be 1 to 36, got 0"),
        (lambda: NDHConfig(hidden_size=0), "--model.hidden-size must be at least 1, got 0"),
        (lambda: NDHConfig(encoder="lstm", hidden_size=7), "7 must be even"),
        (
            lambda: NDHRolloutConfig(max_actions=-1),
            "--rollout.max-actions must not be negative, got -1",
        ),
        (lambda: NDHRun(sample_ratio=2.0), r"--sample-ratio must be in \[0, 1\], got 2.0"),
        (lambda: NDHRun(max_length=-1), "--max-length must not be negative, got -1"),
        (
            lambda: NDHRun(pretrained=Path("a"), model=SEQ2SEQ_OF_THE_PAPER),
            "--pretrained needs --model.encoder",
        ),
    ],
)
def test_a_bad_option_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_text_and_episode_are_as_long_as_the_authors():
    run = NDHRun()
    assert (run.text_length, run.max_actions) == (300, 40)
    assert replace(run, path_type="planner_path").max_actions == 20
    assert replace(run, history="oracle_ans").text_length == 70
    assert replace(run, max_length=50, rollout=NDHRolloutConfig(max_actions=7)).text_length == 50
    base = replace(run, model=SEQ2SEQ_OF_THE_PAPER)
    assert (base.text_length, base.max_actions) == (720, 80)


def test_every_row_of_the_table_has_a_preset():
    for row in ("prevalent", "seq2seq"):
        for name, path_type in (
            ("oracle", "planner_path"),
            ("navigator", "player_path"),
            ("mixed", "trusted_path"),
        ):
            assert NDH_PRESETS[f"{row}-{name}"][1].path_type == path_type


def test_the_published_sizes():
    mixed, seq2seq = NDH_PRESETS["prevalent-mixed"][1], NDH_PRESETS["seq2seq-mixed"][1]
    assert (mixed.batch_size, mixed.text_length, mixed.optimizer.kind) == (15, 300, "adamax")
    assert not mixed.model.update_language
    assert mixed.model.encoder_size == mixed.model.hidden_size == 1024
    assert (seq2seq.batch_size, seq2seq.model.hidden_size, seq2seq.max_actions) == (100, 512, 80)
    assert seq2seq.optimizer.weight_decay == mixed.optimizer.weight_decay == 5e-4
