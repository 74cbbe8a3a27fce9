"""Training runs and goes on in bf16 and fp16, and keeps to what it began with."""

import pytest

from optimus.data.toy import write_toy

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
