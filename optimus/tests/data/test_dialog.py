import json

import numpy as np
import pytest

from optimus.data.batches import Batches, Padding
from optimus.data.dialog import load_dialogs, read_turns
from optimus.data.tokenizers import load_tokenizers, train_tokenizers

TURNS = "hello there .\thow are you ?\nhello there . [SEP] how are you ?\tfine .\n"


@pytest.fixture(scope="module")
def tokenizers():
    return train_tokenizers(["hello there .", "how are you ?", "fine ."] * 4, 60, 290)


@pytest.mark.golden
def test_turns_become_the_authors_cache(golden_kind):
    folder = golden_kind("spacefusion", "dialog.txt")
    tokenizers = load_tokenizers(golden_kind("dialog_ctrl_tokenizer"))
    (cache,) = folder.glob("cached_*_dialog.json")
    expected = json.loads(cache.read_text())
    dialogs = load_dialogs(folder / "dialog.txt", tokenizers)
    assert len(dialogs) == len(expected)
    for i, entry in enumerate(expected):
        assert dialogs.contexts[i].tolist() == entry["bert_token_ctx"]
        assert dialogs.responses.encoder(i).tolist() == entry["bert_token"]
        assert dialogs.responses.decoder(i).tolist() == entry["gpt2_token"]


def test_contexts_stand_beside_their_responses(tokenizers, tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(TURNS * 4)
    dialogs = load_dialogs(path, tokenizers)
    padding = Padding(tokenizers.pad_id)
    batch = dialogs.with_contexts(next(Batches(dialogs.responses, 4, padding)), padding)
    for row, mask, number in zip(
        batch.context_ids, batch.context_mask, batch.response.index, strict=True
    ):
        np.testing.assert_array_equal(row[mask], dialogs.contexts[int(number)])
    assert batch.to("cpu").context_ids.shape == batch.context_mask.shape


@pytest.mark.parametrize("keep_cls", [True, False])
def test_a_long_context_keeps_its_last_tokens(tokenizers, tmp_path, keep_cls):
    path = tmp_path / "train.txt"
    path.write_text(TURNS)
    whole = load_dialogs(path, tokenizers).contexts[1].tolist()
    cut = load_dialogs(path, tokenizers, max_tokens=6, keep_cls=keep_cls).contexts[1].tolist()
    assert len(cut) == 6
    assert cut[-5:] == whole[-5:]
    assert (cut[0] == tokenizers.cls_id) == keep_cls


def test_other_separators_count_as_one(tokenizers, tmp_path):
    (tmp_path / "a").write_text("hello . EOS fine .\tfine .\n")
    (tmp_path / "b").write_text("hello . [SEP] fine .\tfine .\n")
    a, b = (load_dialogs(tmp_path / name, tokenizers).contexts[0].tolist() for name in "ab")
    assert a == b


def test_lines_without_two_sides_are_named(tokenizers, tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("a\tb\n\nhello\n")
    with pytest.raises(ValueError, match=r"line 3 .* `context TAB response`"):
        list(read_turns(path))
    path.write_text("\n")
    with pytest.raises(ValueError, match="no dialog turn"):
        load_dialogs(path, tokenizers)
    with pytest.raises(FileNotFoundError, match="dailydialog"):
        load_dialogs(tmp_path / "none", tokenizers)
