"""Training runs and goes on in bf16 and fp16, and keeps to what it began with."""

import json
from pathlib import Path

import pytest

from optimus.data.toy import write_toy
from optimus.runtime.signals import StopSignal

LABELED = "0\ta cat sits on the mat .\n1\tno dog runs here .\n"
TURNS = "hello there . [SEP] how are you ?\ti am fine .\nwhere is it ?\tin the garden .\n"


@pytest.fixture
def texts(tmp_path, monkeypatch):
    """The corpora of the smoke presets, as short as can be."""
    monkeypatch.chdir(tmp_path)
    write_toy("data/toy")
    for folder, text in (("toy-labels", LABELED), ("dailydialog", TURNS)):
        (tmp_path / "data" / folder).mkdir()
        for split in ("train", "valid", "test"):
            (tmp_path / "data" / folder / f"{split}.txt").write_text(text * 8)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("verb", ["train", "train-dialog", "train-label-control"])
def test_a_smoke_run_goes_on_in_its_precision_and_in_no_other(ends, texts, verb, precision):
    words = (verb, "smoke", "--device", "cpu", "--run-dir", "run")
    ends(*words, "--precision", precision, "--max-steps", 1)
    ends(*words, "--precision", precision, "--max-steps", 2)
    refusal = ends(*words, "--precision", "fp32", "--max-steps", 3, status=2)
    assert "--precision" in refusal
    assert precision in refusal


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_classifier_goes_on_in_its_precision_and_in_no_other(ends, texts, precision):
    words = (
        *("train-classifier", "smoke", "--device", "cpu", "--run-dir", "run", "--max-steps", 2),
        *("--fractions", 1.0, "--seeds", 1, "--data.task", "labeled"),
        *("--data.folder", "data/toy-labels/train.txt", "--data.test", "data/toy-labels/test.txt"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopSignal, "requested", lambda self, step: step == 1)
        ends(*words, "--precision", precision, status=3)
    assert precision in ends(*words, "--precision", "fp32", status=2)
    ends(*words)  # what `auto` means was decided at the first start
    results = json.loads(Path("run/eval_results.json").read_text())
    assert results["provenance"]["precision"] == precision
