"""The speaker's command: smoke, resume, errors."""

from dataclasses import fields, replace

import pytest

from prevalent.__main__ import main
from prevalent.released.snapshots import find_agent
from prevalent.runtime.logs import read_metrics
from prevalent.tasks.speaker import SPEAKER_PRESETS, SpeakerRun, train_speaker
from tests.toy_runs import assert_same_modules, run_in_halves, speaker_run


def test_the_command_trains_scores_and_keeps_snapshots(toy_world, tmp_path):
    words = ["smoke", "--run-dir", str(tmp_path), "--world", "matterport", "--device", "cpu"]
    words += ["--data-dir", str(toy_world), "--features", "features.npy"]
    with pytest.raises(SystemExit, match="0"):
        main(["train-speaker", *words])
    last = read_metrics(tmp_path)[-1]
    for split in ("val_seen", "val_unseen"):
        for metric in ("bleu", "loss", "word_accuracy", "sentence_accuracy"):
            assert f"{split}/{metric}" in last
    assert (find_agent(tmp_path) / "vocab.txt").is_file()
    assert find_agent(tmp_path, "best_val_unseen_loss").name == "best_val_unseen_loss"


def test_a_resumed_run_equals_an_uninterrupted_one(toy_world, tmp_path):
    config = speaker_run(toy_world, tmp_path / "whole", batch_size=5, max_steps=7, held_out=())
    whole = train_speaker(config)
    halves = run_in_halves(train_speaker, replace(config, run_dir=tmp_path / "halves"), 3)
    assert_same_modules(whole.modules, halves.modules)
    records = [tmp_path / name / "metrics.jsonl" for name in ("whole", "halves")]
    assert records[0].read_text() == records[1].read_text()


def test_missing_words_and_bad_sizes_are_named(toy_world, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"word vocabulary .*none\.txt does not exist"):
        train_speaker(speaker_run(toy_world, tmp_path, words="none.txt"))
    with pytest.raises(ValueError, match="batch-size must be at least 1, got 0"):
        speaker_run(toy_world, tmp_path, batch_size=0)


def test_the_presets_hold_the_published_settings():
    run = SPEAKER_PRESETS["envdrop"][1]
    assert (run.max_steps, run.optimizer.kind, run.optimizer.lr) == (80_000, "adam", 1e-4)
    assert (run.speaker.dropout, run.speaker.angle_size, run.batch_size) == (0.6, 128, 64)
    assert len(fields(SpeakerRun)) <= 35
