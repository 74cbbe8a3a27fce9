"""Corrupt records: counted, named or fatal; what stands beside a text never moves to another."""

from itertools import pairwise

import pytest

from optimus.data.labeled import TASKS, load_labeled, read_labeled, read_task
from optimus.data.text import TextOptions, load_sentences, read_authors_json
from optimus.data.tokenizers import train_tokenizers
from optimus.tasks.dialog import load_dialogs

TEXTS = ["the dog barks .", "café — 你好", "the\u2028dog \x0b sleeps", "a cat ."]
SEPARATORS = {"unix": "\n", "dos": "\r\n", "blank lines": "\n\n \n", "dos blank": "\r\n\r\n"}


@pytest.fixture(scope="module")
def tokenizers():
    return train_tokenizers(TEXTS * 5, 80, 300)


def write(path, rows, separator, mark=""):
    path.write_bytes((mark + separator.join(rows) + separator).encode())
    return path


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order mark"])
@pytest.mark.parametrize("kind", SEPARATORS)
def test_sentences_know_their_lines(tokenizers, tmp_path, kind, mark):
    path = write(tmp_path / "t.txt", TEXTS, SEPARATORS[kind], mark)
    sentences = load_sentences(path, tokenizers)
    assert len(sentences) == len(TEXTS)
    lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    for i, text in enumerate(TEXTS):
        assert lines[sentences.lines[i]] == text
        assert sentences.decoder(i).tolist() == tokenizers.encode_decoder([text])[0]
    assert sentences.counts.empty == sentences.counts.read - len(TEXTS)


@pytest.mark.parametrize("kind", SEPARATORS)
def test_labels_stay_with_their_texts(tokenizers, tmp_path, kind):
    path = write(tmp_path / "t.tsv", [f"{i}\t{t}" for i, t in enumerate(TEXTS)], SEPARATORS[kind])
    labeled = load_labeled(path, tokenizers)
    for i, text in enumerate(TEXTS):
        assert labeled.names[labeled.labels[i]] == str(i)
        expected = tokenizers.encode_decoder([text])[0]
        assert labeled.sentences.decoder(i).tolist() == expected


@pytest.mark.parametrize("kind", ["unix", "dos"])
def test_labels_in_a_file_of_their_own_stay_with_their_texts(tokenizers, tmp_path, kind):
    texts = [TEXTS[0], "", *TEXTS[1:], "  "]
    path = write(tmp_path / "t.text", texts, SEPARATORS[kind])
    write(tmp_path / "t.labels", [str(i) for i in range(len(texts))], SEPARATORS[kind])
    labeled = load_labeled(path, tokenizers)
    assert [labeled.names[i] for i in labeled.labels] == ["0", "2", "3", "4"]
    write(tmp_path / "t.labels", ["0"] * (len(texts) - 1), SEPARATORS[kind])
    with pytest.raises(ValueError, match="they must match"):
        read_labeled(path)


@pytest.mark.parametrize("kind", SEPARATORS)
def test_contexts_stay_with_their_responses(tokenizers, tmp_path, kind):
    rows = [f"{a}\t{b}" for a, b in pairwise(TEXTS)]
    dialogs = load_dialogs(write(tmp_path / "d.txt", rows, SEPARATORS[kind]), tokenizers)
    for i, (context, response) in enumerate(pairwise(TEXTS)):
        assert dialogs.contexts[i].tolist() == tokenizers.encode_encoder([context])[0]
        assert dialogs.responses.decoder(i).tolist() == tokenizers.encode_decoder([response])[0]


@pytest.mark.parametrize("kind", SEPARATORS)
def test_examples_of_a_task_keep_their_labels_and_short_records_are_counted(tmp_path, kind, caplog):
    rows = ["sentence\tlabel", *(f"{text}\t{i % 2}" for i, text in enumerate(TEXTS))]
    path = write(tmp_path / "train.tsv", rows, SEPARATORS[kind])
    (texts,), labels = read_task(path, TASKS["SST-2"])
    assert [t.strip() for t in texts] == TEXTS
    assert labels == ["0", "1", "0", "1"]
    write(path, [*rows, "a record without a label"], SEPARATORS[kind])
    assert read_task(path, TASKS["SST-2"]) == ([texts], labels)
    assert "1 rows of too few columns are left out" in caplog.text


def test_long_records_are_counted_and_move_nothing(tokenizers, tmp_path):
    path = write(tmp_path / "t.tsv", ["0\ta cat .", "1\t" + "the " * 30, "2\tthe dog ."], "\n")
    labeled = load_labeled(path, tokenizers, TextOptions(max_words=9))
    assert [labeled.names[i] for i in labeled.labels] == ["0", "2"]
    assert labeled.sentences.counts.too_many_words == 1


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "{}x",
        '[{"bert_token": [1]}]',
        '[{"bert_token": [1], "bert_token_length": 2, "gpt2_token": [1], "gpt2_token_length": 1}]',
    ],
)
def test_a_damaged_json_shard_is_named(tmp_path, content):
    (tmp_path / "shard.json").write_text(content)
    with pytest.raises(ValueError, match=r"shard\.json is not in the authors' JSON format"):
        read_authors_json(tmp_path / "shard.json")


def test_a_file_that_is_no_text_is_named(tokenizers, tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\xff\x00dog")
    with pytest.raises(ValueError, match=r"t\.txt line 1 is no UTF-8 text"):
        load_sentences(tmp_path / "t.txt", tokenizers)


def test_a_missing_shard_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_authors_json(tmp_path / "none.json")
