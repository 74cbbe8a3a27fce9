"""The follower's command: smoke through the real commands, exact resume, two processes, errors."""

import os
import socket
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

from prevalent.__main__ import main
from prevalent.agents.follower import FollowerConfig
from prevalent.config import TINY_MODEL
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.optimizer import OptimizerConfig
from prevalent.released.checkpoints import save_model
from prevalent.released.snapshots import load_agent, write_snapshot
from prevalent.runtime.checkpoint import Progress
from prevalent.runtime.logs import read_metrics
from prevalent.runtime.option_help import READABLE
from prevalent.tasks import r2r as r2r_module, speaker as speaker_module
from prevalent.tasks.r2r import R2R_PRESETS, R2RRun, train_r2r, update_best
from prevalent.tasks.speaker import train_speaker
from tests.toy_runs import assert_same_modules, follower_run, run_in_halves, speaker_run

LSTM = FollowerConfig(hidden_size=8, word_size=6, action_size=4, angle_size=4)
STILL = {"dropout": 0.0, "encoder_dropout": 0.0, "feature_dropout": 0.0}


@pytest.fixture(scope="module")
def speaker(toy_world, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("speaker")
    train_speaker(speaker_run(toy_world, run_dir))
    return run_dir


@pytest.fixture(scope="module")
def trained(toy_world, speaker, tmp_path_factory):
    """A run of the real command with back-translation."""
    run_dir = tmp_path_factory.mktemp("follower")
    words = ["smoke", "--run-dir", str(run_dir), "--world", "matterport", "--device", "cpu"]
    words += ["--data-dir", str(toy_world), "--features", "features.npy", "--aug", "train"]
    words += ["--wordpieces", "wordpiece.txt", "--speaker", str(speaker)]
    with pytest.raises(SystemExit, match="0"):
        main(["train-r2r", *words])
    return run_dir


def test_the_command_trains_with_back_translation_and_keeps_snapshots(trained):
    rows = read_metrics(trained)
    assert {"imitation", "policy", "critic", "entropy", "encoder_norm"} <= rows[0].keys()
    assert {"val_seen/spl", "val_unseen/success_rate"} <= rows[-1].keys()
    found = {path.name for path in (trained / "snapshots").iterdir()}
    assert found == {"best_val_seen", "best_val_unseen", "best_sr_sum", "best_spl_unseen", "last"}
    assert (trained / "snapshots/last/vocab.txt").is_file()


@pytest.mark.parametrize("beam", [[], ["--beam", "2"], ["--beam", "2", "--tune-alpha"]], ids=str)
def test_a_run_is_evaluated_greedily_and_by_search(trained, speaker, beam, capsys):
    extra = ["--speaker", str(speaker)] if beam else []
    words = ["--run-dir", str(trained), "--split", "val_unseen@2", "--device", "cpu"]
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", *words, *beam, *extra])
    assert "success_rate" in capsys.readouterr().out


def test_a_run_is_submitted_and_drawn(trained, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["submit", "--run-dir", str(trained), "--device", "cpu"])
    assert (trained / "submit_test.json").is_file()
    with pytest.raises(SystemExit, match="0"):
        main(["trajectories", "--run-dir", str(trained), "--count", "1", "--device", "cpu"])
    page = (trained / "trajectories_val_unseen/index.html").read_text()
    assert page.count("<img") == len(list(trained.glob("trajectories_val_unseen/*.png"))) == 1


def test_a_resumed_run_equals_an_uninterrupted_one_in_mid_epoch(toy_world, speaker, tmp_path):
    config = follower_run(
        toy_world,
        tmp_path / "whole",
        aug=("train",),
        speaker=speaker,
        batch_size=5,
        max_steps=7,
        held_out=(),
    )
    whole = train_r2r(config)
    halves = run_in_halves(train_r2r, replace(config, run_dir=tmp_path / "halves"), 3)
    assert_same_modules(whole.modules, halves.modules)
    records = [tmp_path / name / "metrics.jsonl" for name in ("whole", "halves")]
    assert records[0].read_text() == records[1].read_text()


def test_two_processes_equal_one(toy_world, tmp_path):
    words = ["smoke", "--world", "matterport", "--data-dir", str(toy_world), "--device", "cpu"]
    words += ["--features", "features.npy", "--wordpieces", "wordpiece.txt", "--max-steps", "2"]
    words += ["--feedback", "teacher", "--bert.dropout", "0", "--bert.attention-dropout", "0"]
    words += ["--optimizer.kind", "sgd", "--optimizer.lr", "0.01", "--eval-every", "2"]
    words += ["--batch-size", "2", "--run-dir", str(tmp_path / "two")]
    for name in STILL:
        words += [f"--model.{name.replace('_', '-')}", "0"]
    one = train_r2r(
        follower_run(
            toy_world,
            tmp_path / "one",
            batch_size=4,
            max_steps=2,
            feedback="teacher",
            optimizer=OptimizerConfig("sgd", lr=0.01),
            model=replace(R2R_PRESETS["smoke"][1].model, **STILL),
            bert=replace(TINY_MODEL, dropout=0.0, attention_dropout=0.0),
        )
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "prevalent", "train-r2r", *words],
            env={**os.environ, **address, "RANK": str(rank), "WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    before = {name: module.state_dict() for name, module in one.modules.items()}
    before = {name: {k: v.clone() for k, v in state.items()} for name, state in before.items()}
    load_agent(tmp_path / "two/snapshots/last", one.modules)
    for name, module in one.modules.items():
        for key, value in module.state_dict().items():
            assert value.allclose(before[name][key], rtol=1e-4, atol=1e-5), f"{name}.{key}"


@pytest.mark.parametrize(
    "changes",
    [
        {"feedback": "student", "model": LSTM},
        {"aug": ("val_seen",), "accumulate": False, "model": LSTM},
        {"schedule_ratio": 0.5, "model": LSTM},
        {"precision": "bf16"},
        {"feedback": "self-critical", "model": replace(LSTM, num_texts=2)},
    ],
    ids=["student", "in turn", "schedule", "bf16", "self-critical, two texts"],
)
def test_variants_take_steps(toy_world, tmp_path, changes):
    train_r2r(follower_run(toy_world, tmp_path, max_steps=2, held_out=(), **changes))
    assert "loss" in read_metrics(tmp_path)[-1]


def test_an_agent_that_reads_three_texts_is_trained_evaluated_and_drawn(
    toy_world, speaker, tmp_path, capsys
):
    model = replace(R2R_PRESETS["smoke"][1].model, num_texts=3)
    changes = {"max_steps": 1, "model": model, "speaker": speaker, "aug": ("train",)}
    train_r2r(follower_run(toy_world, tmp_path, **changes))
    words = ["--run-dir", str(tmp_path), "--device", "cpu", "--split", "val_unseen@1"]
    for more in ([], ["--one-text"], ["--beam", "2"]):
        with pytest.raises(SystemExit, match="0"):
            main(["evaluate", *words, *more])
    with pytest.raises(SystemExit, match="0"):
        main(["trajectories", *words, "--count", "1"])
    capsys.readouterr()


def test_a_pre_trained_encoder_is_taken_over_and_a_foreign_vocabulary_refused(toy_world, tmp_path):
    words = (toy_world / "wordpiece.txt").read_text().splitlines()
    model = PrevalentForPretraining(replace(TINY_MODEL, vocab_size=len(words), image_dim=36))
    save_model(tmp_path / "fits", model)
    config = follower_run(toy_world, tmp_path / "a", pretrained=tmp_path / "fits", held_out=())
    frozen = replace(config.model, update_cross=False)
    follower = train_r2r(replace(config, max_steps=1, model=frozen))
    assert_same_modules({"bert": follower.modules["encoder"].bert}, {"bert": model.bert})
    odd = replace(model.config, vocab_size=len(words) + 1)
    save_model(tmp_path / "odd", PrevalentForPretraining(odd))
    with pytest.raises(ValueError, match=f"knows {len(words) + 1} word pieces.*has {len(words)}"):
        train_r2r(replace(config, run_dir=tmp_path / "b", pretrained=tmp_path / "odd"))


def test_what_is_missing_or_does_not_fit_is_one_sentence(toy_world, tmp_path, trained, capsys):
    base = ["train-r2r", "smoke", "--world", "matterport", "--data-dir", str(toy_world)]
    base += ["--features", "features.npy", "--wordpieces", "wordpiece.txt", "--device", "cpu"]
    base += ["--run-dir", str(tmp_path)]
    for words, message in (
        (["--model.hidden-size", "10", "--start-from", str(trained)], "a hidden size of 8"),
        (["--aug", "./no_such_paths.json"], "no_such_paths.json"),
        (["--features", "no_such.tsv"], "no_such.tsv does not exist"),
        (["--speaker", str(trained), "--aug", "train"], "holds no speaker"),
        (["--start-from", str(tmp_path / "nowhere")], "holds no agent"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([*base, *words])
        printed = capsys.readouterr().err.splitlines()[-1]
        assert message in printed
        assert printed.count(". ") == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speaker": Path("runs/speaker")}, "--aug names none"),
        ({"schedule_ratio": 0.5, "feedback": "teacher"}, "needs --feedback sample"),
        ({"imitation_weight": -1.0}, "--imitation-weight must not be negative, got -1"),
        ({"pretrained": Path("a"), "model": LSTM}, "--pretrained needs a transformer encoder"),
        ({"train": ()}, "--train needs at least one split"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_that_contradict_each_other_are_refused(toy_world, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        follower_run(toy_world, tmp_path, **changes)


def test_an_authors_snapshot_starts_a_run(toy_world, tmp_path, trained):
    config = follower_run(toy_world, tmp_path / "a", held_out=(), max_steps=1, start_from=trained)
    follower = train_r2r(config)
    write_snapshot(tmp_path / "snap", follower.modules, follower.optimizers, 5)
    again = replace(config, run_dir=tmp_path / "b", start_from=tmp_path / "snap")
    train_r2r(replace(again, load_optimizer=True))


def test_the_best_agents_are_kept_by_each_measure():
    progress = Progress()
    scores = {"val_seen/success_rate": 0.5, "val_unseen/success_rate": 0.4, "val_unseen/spl": 0.3}
    assert update_best(progress, scores) == [
        "best_val_seen",
        "best_val_unseen",
        "best_sr_sum",
        "best_spl_unseen",
    ]
    assert update_best(progress, {**scores, "val_unseen/spl": 0.35}) == ["best_spl_unseen"]


def test_the_presets_hold_the_published_settings():
    first, second = (R2R_PRESETS[f"prevalent-stage{stage}"][1] for stage in (1, 2))
    assert (first.batch_size, first.max_steps, first.optimizer.lr) == (20, 100_000, 2e-5)
    assert (second.batch_size, second.max_steps, second.optimizer.lr) == (10, 20_000, 2e-6)
    assert not first.model.update_cross
    assert second.model.update_cross
    assert first.model.encoder_size == first.model.hidden_size == 1024
    assert first.rollout.max_actions == R2R_PRESETS["envdrop"][1].rollout.max_actions == 35
    own = [f.name for f in fields(R2RRun) if not is_dataclass(getattr(first, f.name))]
    assert len(own) <= READABLE  # what --help shows of it; groups have a page each


@pytest.mark.parametrize("module", [r2r_module, speaker_module], ids=["r2r", "speaker"])
def test_the_deterministic_option_reaches_pytorch(toy_world, tmp_path, monkeypatch, module):
    asked = {}

    def start(device, **options):
        asked.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "start", start)
    name = "train-r2r" if module is r2r_module else "train-speaker"
    words = ["smoke", "--run-dir", str(tmp_path / "run"), "--data-dir", str(toy_world)]
    with pytest.raises(SystemExit):
        main([name, *words, "--deterministic"])
    assert asked["deterministic"] is True
