"""What must be true of a run of every task: its kind, its opening, its continuation, its verbs."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prevalent import loop
from prevalent.__main__ import main
from prevalent.agents.ndh import NDHConfig
from prevalent.agents.rollout import EpisodeBatches
from prevalent.environments.navigation import Episode
from prevalent.old_runs import upgrade
from prevalent.released.checkpoints import read_weights
from prevalent.runs import KINDS, open_run
from prevalent.runtime.checkpoint import CheckpointMismatch
from prevalent.runtime.command import Stopped
from prevalent.runtime.distributed import World
from prevalent.runtime.run_folder import HEADER, as_plain
from prevalent.runtime.signals import StopSignal
from prevalent.tasks.graph import PRESETS as GRAPH_PRESETS, train_graph
from prevalent.tasks.hanna import HANNA_PRESETS, Searches, train_hanna
from prevalent.tasks.navigation import AgentProgress
from prevalent.tasks.ndh import NDH_PRESETS, train_ndh
from prevalent.tasks.pretraining import PRETRAIN_PRESETS, pretrain
from prevalent.tasks.r2r import R2R_PRESETS, train_r2r
from prevalent.tasks.speaker import SPEAKER_PRESETS, train_speaker
from tests.toy_runs import (
    contents,
    follower_run,
    graph_run,
    hanna_run,
    ndh_run,
    on_toy_world,
    run_in_halves,
    speaker_run,
    train_in_two_processes,
)

VERBS = {
    "pretraining": ("pretrain", "smoke"),
    "r2r": ("train-r2r", "smoke"),
    "graph": ("train-graph", "smoke"),
    "speaker": ("train-speaker", "smoke"),
    "ndh": ("train-ndh", "ndh-smoke"),
    "hanna": ("train-hanna", "hanna-smoke"),
}
ALONE = World(0, 1, torch.device("cpu"))
TRAIN = {
    "pretraining": pretrain,
    "r2r": train_r2r,
    "graph": train_graph,
    "speaker": train_speaker,
    "ndh": train_ndh,
    "hanna": train_hanna,
}


def make_config(kind, world, run_dir, **changes):
    if kind == "pretraining":
        words = {"vocabulary": Path("wordpiece.txt"), **changes}
        return on_toy_world(PRETRAIN_PRESETS["smoke"][1], world, run_dir, **words)
    make = {"r2r": follower_run, "graph": graph_run, "speaker": speaker_run}
    make |= {"ndh": ndh_run, "hanna": hanna_run}
    return make[kind](world, run_dir, **changes)


@pytest.fixture(scope="module")
def runs(toy_world, tmp_path_factory):
    """A run of every kind that was stopped at step 1 of 4."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopSignal, "requested", lambda self, step, every=10: step == 1)
        for kind in KINDS:
            with pytest.raises(Stopped):
                TRAIN[kind](make_config(kind, toy_world, folder / kind, max_steps=4))
    return {kind: folder / kind for kind in KINDS}


def run_and_fail(words, capsys):
    """The one sentence of a command that is refused."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    printed = capsys.readouterr().err.splitlines()[-1]
    assert "Traceback" not in printed
    return printed


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_knows_what_it_is(runs, kind, caplog):
    plain = json.loads((runs[kind] / "config.json").read_text())
    assert tuple(plain)[:3] == HEADER
    assert plain["kind"] == kind
    with caplog.at_level(logging.WARNING):
        run = open_run(runs[kind])
    assert f"{runs[kind]} is unfinished: step 1 of 4" in caplog.text
    assert (run.kind, run.config.max_steps) == (kind, 4)
    other = next(one for one in KINDS if one != kind)
    with pytest.raises(ValueError, match=f"is a run of kind '{kind}'.*this command takes {other}"):
        open_run(runs[kind], other)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "graph"])  # new in 0.2
def test_the_kind_of_an_old_run_is_seen_from_its_options(toy_world, tmp_path, kind):
    plain = as_plain(make_config(kind, toy_world, tmp_path))
    rollout = {"ndh": "walk", "hanna": "search"}.get(kind, "rollout")
    old = {rollout if name == "rollout" else name: value for name, value in plain.items()}
    for name in ("keep", "patience", "deterministic"):
        del old[name]
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert upgrade(old)["kind"] == kind
    assert open_run(tmp_path).config == make_config(kind, toy_world, tmp_path)


def test_a_key_that_is_unknown_or_missing_is_named(runs, tmp_path):
    plain = json.loads((runs["r2r"] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**plain, "from_the_future": 1}))
    with pytest.raises(ValueError, match="unknown from_the_future"):
        open_run(tmp_path)
    del plain["batch_size"]
    (tmp_path / "config.json").write_text(json.dumps(plain))
    with pytest.raises(ValueError, match="missing batch_size"):
        open_run(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", KINDS)
def test_a_run_given_to_another_tasks_command_is_refused_and_stays_as_it_was(
    runs, kind, verb, capsys
):
    if kind == verb:
        return
    before = contents(runs[kind])
    sentence = run_and_fail([*VERBS[verb], "--run-dir", str(runs[kind])], capsys)
    assert f"holds a run of kind '{kind}', this command makes one of kind '{verb}'" in sentence
    assert contents(runs[kind]) == before


SEQ2SEQ = NDHConfig(encoder="lstm", actions="low-level", hidden_size=8, word_size=6, angle_size=4)
HANNA_WORDS = replace(HANNA_PRESETS["hanna-smoke"][1].model, encoder="words")
CHANGES = [
    ("pretraining", {"accumulate": 2}, "--accumulate is 2 here and 1 in the run"),
    ("pretraining", {"precision": "bf16"}, "--precision is bf16 here and fp32"),
    ("pretraining", {"train": ("r2r:val_seen",)}, "--train is r2r:val_seen here and r2r:train"),
    ("pretraining", {"optimizer": "torch"}, "--optimizer is torch here and authors"),
    ("r2r", {"train": ("val_seen",)}, "--train is val_seen here and train in the run"),
    ("r2r", {"angle_layout": "block"}, "--angle-layout is block here and interleaved"),
    ("r2r", {"max_length": 9}, "--max-length is 9 here and"),
    ("r2r", {"precision": "fp16"}, "--precision is fp16 here and fp32"),
    ("speaker", {"seed": 3}, "--seed is 3 here and 1"),
    ("ndh", {"history": "target"}, "--history is target here and all"),
    ("hanna", {"max_length": 9}, "--max-length is 9 here and 50"),
]


@pytest.mark.parametrize(("kind", "changes", "sentence"), CHANGES, ids=str)
def test_a_continuation_with_other_options_is_refused_and_the_run_stays_as_it_was(
    toy_world, runs, kind, changes, sentence
):
    before = contents(runs[kind])
    with pytest.raises(ValueError, match=sentence):
        TRAIN[kind](make_config(kind, toy_world, runs[kind], **changes))
    assert contents(runs[kind]) == before


@pytest.mark.parametrize("kind", KINDS)
def test_another_size_is_one_sentence_with_both_values(toy_world, runs, kind):
    config = make_config(kind, toy_world, runs[kind])
    group = {"speaker": "speaker", "graph": "bert"}.get(kind, "model")
    wider = replace(getattr(config, group), hidden_size=32)
    before = contents(runs[kind])
    with pytest.raises(ValueError, match=rf"--{group}\.hidden-size is 32 here and \d+ in the run"):
        TRAIN[kind](replace(config, **{group: wider}))
    assert contents(runs[kind]) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_that_is_refused_leaves_nothing_behind(toy_world, tmp_path, kind, capsys):
    """Neither in a new folder nor in one that somebody has made; the toy world was made by then."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there/notes.txt").write_text("mine")
    option = "--init-from" if kind == "pretraining" else "--start-from"
    for name in ("new/run", "there"):
        before = contents(tmp_path)
        words = [*VERBS[kind], "--run-dir", str(tmp_path / name), "--device", "cpu"]
        assert "nowhere" in run_and_fail([*words, option, str(tmp_path / "nowhere")], capsys)
        assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_other_data_under_the_same_name_is_refused():
    items = [Episode("house", ("a", "b"), id=f"{i}_0") for i in range(4)]
    first = EpisodeBatches(Searches(items), 2, ALONE)
    next(first)
    for others, sentence in (
        (items[:3], "goes through 4 episodes, the data now has 3"),
        ([*items[:3], replace(items[3], id="other")], "goes through 4 other episodes"),
    ):
        with pytest.raises(CheckpointMismatch, match=sentence):
            EpisodeBatches(Searches(others), 2, ALONE).load_state_dict(first.state_dict())
    again = EpisodeBatches(Searches(items), 2, ALONE)
    again.load_state_dict(first.state_dict())
    assert [next(first) for _ in range(5)] == [next(again) for _ in range(5)]


def test_processes_share_out_the_batches_of_one():
    items = [Episode("house", ("a", "b"), id=str(i)) for i in range(7)]
    whole = EpisodeBatches(Searches(items), 4, ALONE)
    parts = [
        EpisodeBatches(Searches(items), 4, replace(ALONE, rank=rank, size=2)) for rank in range(2)
    ]
    for _ in range(4):
        together = next(whole)
        assert [next(part) for part in parts] == [together[::2], together[1::2]]


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_steps_than_were_taken_is_said(toy_world, tmp_path, kind):
    config = make_config(kind, toy_world, tmp_path, max_steps=2, held_out=())
    TRAIN[kind](config)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"--max-steps ends the run at step 1.*has come to 2"):
        TRAIN[kind](replace(config, max_steps=1))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["r2r", "graph", "ndh", "hanna"])
def test_an_unfinished_run_is_evaluated_from_its_newest_checkpoint_or_another(runs, kind, capsys):
    split = "val_unseen" if kind == "hanna" else "val_unseen@2"
    words = ["evaluate", "--run-dir", str(runs[kind]), "--split", split, "--device", "cpu"]
    for more in ([], ["--step", "1"]):
        with pytest.raises(SystemExit, match="0"):
            main([*words, *more])
        assert "success_rate" in capsys.readouterr().out
    sentence = run_and_fail([*words, "--step", "3"], capsys)
    assert "--step 3" in sentence
    assert "has checkpoints of the steps 1" in sentence


@pytest.mark.parametrize(
    ("verb", "kind"),
    [("evaluate", "r2r"), ("evaluate", "graph"), ("evaluate", "ndh"), ("trajectories", "r2r")],
)
def test_a_split_whose_goals_are_hidden_is_refused_before_a_step(runs, verb, kind, capsys):
    before = contents(runs[kind])
    words = [verb, "--run-dir", str(runs[kind]), "--split", "test", "--device", "cpu"]
    sentence = run_and_fail(words, capsys)
    assert "of the split 'test' has no goals to score against" in sentence
    assert "`prevalent submit`" in sentence
    assert contents(runs[kind]) == before


@pytest.mark.parametrize("kind", ["r2r", "graph", "ndh"])
def test_hidden_goals_are_held_out_from_no_training(toy_world, tmp_path, kind):
    config = make_config(kind, toy_world, tmp_path / "run", held_out=("val_seen", "test"))
    with pytest.raises(ValueError, match="of the split 'test' has no goals to score against"):
        TRAIN[kind](config)
    assert not (tmp_path / "run").exists()


NAMES = {"r2r": "r2r/R2R_val_seen.json", "ndh": "ndh/val_seen.json"}
NAMES["hanna"] = "hanna/hanna_val_seen.json"


@pytest.mark.parametrize("kind", NAMES)
def test_instructions_of_one_id_are_held_out_from_no_training_and_no_walk(
    toy_world, runs, tmp_path, kind, capsys
):
    shutil.copytree(toy_world, tmp_path / "world")
    path = tmp_path / "world" / NAMES[kind]
    items = json.loads(path.read_text())
    path.write_text(json.dumps([*items, items[0]]))
    words = ["evaluate", "--run-dir", str(runs[kind]), "--split", "val_seen", "--device", "cpu"]
    sentence = run_and_fail([*words, "--data-dir", str(tmp_path / "world")], capsys)
    assert "2 instructions have the id" in sentence
    with pytest.raises(ValueError, match="2 instructions have the id"):
        TRAIN[kind](make_config(kind, tmp_path / "world", tmp_path / "run", held_out=("val_seen",)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_features_that_are_not_finite_are_blamed_and_not_the_optimizer(
    toy_world, runs, tmp_path, kind, capsys
):
    shutil.copytree(toy_world, tmp_path / "world")
    array = np.load(tmp_path / "world/features.npy")
    array[:, 7, 1] = np.nan
    np.save(tmp_path / "world/features.npy", array)
    with pytest.raises(ValueError, match=r"features\.npy' row \d+ .* not finite"):
        TRAIN[kind](make_config(kind, tmp_path / "world", tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    if kind in ("r2r", "graph", "ndh", "hanna"):
        words = ["evaluate", "--run-dir", str(runs[kind]), "--device", "cpu"]
        assert "not finite" in run_and_fail([*words, "--data-dir", str(tmp_path / "world")], capsys)


@pytest.mark.parametrize("kind", ["pretraining", "speaker"])
@pytest.mark.parametrize("verb", ["evaluate", "submit", "trajectories"])
def test_verbs_name_the_kinds_that_they_take(runs, kind, verb, capsys):
    sentence = run_and_fail([verb, "--run-dir", str(runs[kind])], capsys)
    assert f"is a run of kind '{kind}'" in sentence
    assert "this command takes r2r" in sentence


def test_a_task_that_contradicts_the_run_is_refused(runs, capsys):
    words = ["evaluate", "--run-dir", str(runs["ndh"]), "--task", "hanna"]
    assert "is a run of kind 'ndh'; drop --task" in run_and_fail(words, capsys)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_ends_when_patience_does(toy_world, tmp_path, kind):
    config = make_config(
        kind, toy_world, tmp_path, max_steps=9, eval_every=1, save_every=9, patience=1
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.RunProgress, "improve", never_better)
        TRAIN[kind](config)
    assert json.loads((tmp_path / "reached.json").read_text())["step"] == 1


def never_better(progress, goals):
    progress.waited += 1
    return []


@pytest.mark.parametrize("kind", KINDS)
def test_the_deterministic_option_reaches_pytorch(toy_world, tmp_path, monkeypatch, kind):
    asked = {}

    def start(device, **options):
        asked.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "start", start)
    with pytest.raises(KeyboardInterrupt):
        TRAIN[kind](make_config(kind, toy_world, tmp_path, deterministic=True))
    assert asked["deterministic"] is True


VARIANTS = {
    "pretraining": ("pretraining", {}),
    "r2r, augmented": ("r2r", {"aug": ("train",)}),
    "graph": ("graph", {}),
    "speaker": ("speaker", {}),
    "ndh": ("ndh", {}),
    "ndh, Seq2Seq": ("ndh", {"model": SEQ2SEQ, "feedback": "sample"}),
    "hanna": ("hanna", {}),
    "hanna, words": ("hanna", {"model": HANNA_WORDS}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_continued_in_mid_epoch_equals_an_uninterrupted_one(toy_world, tmp_path, variant):
    kind, changes = VARIANTS[variant]
    changes = {"batch_size": 5, "max_steps": 7, "held_out": (), **changes}
    whole = make_config(kind, toy_world, tmp_path / "whole", **changes)
    TRAIN[kind](whole)
    run_in_halves(TRAIN[kind], replace(whole, run_dir=tmp_path / "halves"), 3)
    weights = "model" if kind == "pretraining" else "snapshots/last"
    for name in ("metrics.jsonl", f"{weights}/model.safetensors"):
        one, other = (tmp_path / run / name for run in ("whole", "halves"))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("kind", ["r2r", "ndh"])
def test_two_processes_equal_one(toy_world, tmp_path, kind):
    words = [*VERBS[kind], "--world", "matterport", "--data-dir", str(toy_world)]
    words += ["--device", "cpu", "--features", "features.npy", "--wordpieces", "wordpiece.txt"]
    words += ["--max-steps", "2", "--eval-every", "2", "--feedback", "teacher"]
    words += ["--optimizer.kind", "sgd", "--optimizer.lr", "0.01", "--model.dropout", "0"]
    words += ["--model.encoder-dropout", "0", "--bert.dropout", "0", "--bert.attention-dropout"]
    words += ["0", *(["--model.feature-dropout", "0"] if kind == "r2r" else [])]
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--batch-size", "4", "--run-dir", str(tmp_path / "one")])
    train_in_two_processes([*words, "--batch-size", "4", "--run-dir", str(tmp_path / "two")])
    one, two = (
        read_weights(tmp_path / run / "snapshots/last/model.safetensors") for run in ("one", "two")
    )
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert two[name].allclose(value, rtol=1e-4, atol=1e-5), name


PRESETS = (
    *(PRETRAIN_PRESETS, R2R_PRESETS, GRAPH_PRESETS, SPEAKER_PRESETS, NDH_PRESETS),
    HANNA_PRESETS,
)


def test_every_preset_has_a_title_and_a_folder_of_its_own():
    folders = [config.run_dir for presets in PRESETS for _, config in presets.values()]
    assert len(set(folders)) == len(folders)
    assert all(title for presets in PRESETS for title, _ in presets.values())


def test_the_best_values_of_an_old_run_are_known():
    progress = AgentProgress()
    progress.load_state_dict({"step": 7, "best_val_unseen": 0.4})
    assert (progress.step, progress.best) == (7, {"best_val_unseen": 0.4})
    assert progress.improve({"best_val_unseen": 0.3}) == []
    again = AgentProgress()
    again.load_state_dict(progress.state_dict())
    assert again.state_dict() == progress.state_dict()
