"""The speaker's command: smoke, resume, errors."""

from __future__ import annotations

import pytest

from prevalent.__main__ import main
from prevalent.released.snapshots import find_agent
from prevalent.runtime.logs import read_metrics
from prevalent.tasks.speaker import SPEAKER_PRESETS, train_speaker
from tests.toy_runs import speaker_run


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


def test_missing_words_and_bad_sizes_are_named(toy_world, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"word vocabulary .*none\.txt does not exist"):
        train_speaker(speaker_run(toy_world, tmp_path, words="none.txt"))
    with pytest.raises(ValueError, match="batch-size must be at least 1, got 0"):
        speaker_run(toy_world, tmp_path, batch_size=0)


def test_the_presets_hold_the_published_settings():
    run = SPEAKER_PRESETS["envdrop"][1]
    assert (run.max_steps, run.optimizer.kind, run.optimizer.lr) == (80_000, "adam", 1e-4)
    assert (run.speaker.dropout, run.speaker.angle_size, run.batch_size) == (0.6, 128, 64)
