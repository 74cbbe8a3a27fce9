import dataclasses

import pytest
import torch

from fqgan.__main__ import main
from fqgan.config import PRESETS
from fqgan.released.migrate import differences
from fqgan.runs import task_of


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_task_and_a_line_of_explanation(name):
    text, config = PRESETS[name]
    assert text
    assert "\n" not in text
    assert task_of(config.kind).config is type(config)
    assert dataclasses.is_dataclass(config)
    assert config.networks(10).quantizer == config.quantizer


def test_a_dry_run_prints_the_checked_options(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "biggan-i128", "--dry-run", "--quantizer.codebook-size", "256"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert '"codebook_size": 256' in printed
    assert '"shared_dim": 128' in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "biggan-c11"], "unknown preset 'biggan-c11'"),
        (["train", "smoke", "--max-steps", "0"], "--max-steps must be at least 1"),
        (["train", "smoke", "--step.batch-size", "0"], "--step.batch-size must be at least 1"),
        (["train", "smoke", "--data.source", "hdf5", "--data.path", "no.hdf5"], "no.hdf5"),
        pytest.param(
            ["train", "smoke", "--device", "cuda"],
            "--device cuda needs a CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
        (["evaluate", "--run-dir", "nowhere"], "nowhere is not the folder of a run"),
        (["sample", "--weights", "nowhere"], "no weights were found in nowhere"),
        (["translate", "--weights", "nowhere", "--input", "a.png"], "no weights were found in"),
        (
            ["train", "ugatit-smoke", "--data.source", "folders", "--data.path", "nowhere"],
            "--data.path nowhere is not a folder; it must hold trainA",
        ),
        (["plot", "nowhere"], "no rows in metrics.jsonl"),
        (["migrate", "--dataset", "MNIST"], "--dataset MNIST is none of the authors'"),
        (["paint"], "unknown verb 'paint'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_of_the_user_is_one_sentence_and_status_2(words, said, capsys, monkeypatch):
    monkeypatch.delenv("TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert "Traceback" not in error


def test_differences_give_back_the_options_of_another_preset():
    words = differences(PRESETS["biggan-c10"][1], PRESETS["biggan-c100"][1])
    assert words[words.index("--quantizer.codebook-size") + 1] == "64"
