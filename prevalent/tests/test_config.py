from pathlib import Path

import pytest

from prevalent.config import ModelConfig, default_data_dir
from prevalent.tasks.pretraining import PRETRAIN_PRESETS, PretrainConfig


def test_every_preset_has_a_title_and_a_run_dir_of_its_own():
    folders = {config.run_dir for _, config in PRETRAIN_PRESETS.values()}
    assert len(folders) == len(PRETRAIN_PRESETS)
    assert all(title for title, _ in PRETRAIN_PRESETS.values())


def test_the_data_folder_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("PREVALENT_DATA", "/somewhere")
    assert default_data_dir() == PretrainConfig().data_dir == Path("/somewhere")
    monkeypatch.delenv("PREVALENT_DATA")
    assert default_data_dir() == Path("data")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "--lr must be positive"),
        ({"accumulate": 0}, "--accumulate must be at least 1"),
        ({"angle_size": 6}, "--angle-size must be a multiple of 4"),
        ({"max_length": 513}, "--max-length 513 exceeds --model.max-positions 512"),
        ({"train": ()}, "--train needs at least one source"),
        ({"held_out": ("val",)}, "source 'val' of --train or --held-out"),
    ],
    ids=str,
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        PretrainConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 10, "num_heads": 3}, "must be a multiple of --model.num-heads 3"),
        ({"dropout": 1.0}, r"--model.dropout must be in \[0, 1\)"),
        ({"num_cross_layers": -1}, "--model.num-cross-layers must not be negative"),
    ],
    ids=str,
)
def test_a_wrong_model_option_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**options)
