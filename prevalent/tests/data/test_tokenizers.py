""""""

from __future__ import annotations

import gzip
import json

import pytest

from prevalent.data.instructions import expand, read_paths
from prevalent.data.tokenizers import (
    DIALOG_TOKENS,
    DialogWordTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
    build_vocabulary,
    build_wordpiece_vocabulary,
    dialog_turns,
    parse_ids,
    read_vocabulary,
    split_sentences,
    split_words,
    write_vocabulary,
)


@pytest.fixture
def vocab(data_dir):
    return data_dir / "vocab/bert/bert-base-uncased-vocab.txt"


@pytest.fixture
def small(tmp_path):
    words = build_wordpiece_vocabulary(["go", "left", ".", "turn", "##s", "<", ">"])
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    return tmp_path / "vocab.txt"


@pytest.mark.golden
def test_recorded_encodings_are_reproduced(golden, vocab):
    path = golden / "models/tokenizers.json"
    if not path.exists():
        pytest.skip("no tokenizers case")
    case = json.loads(path.read_text())
    for kind in (kind for kind in case if kind.startswith("BTokenizer(")):
        tokenizer = WordPieceTokenizer(vocab, int(kind[len("BTokenizer(") : -1]))
        for one in case[kind]:
            assert tokenizer.encode(one["s"]).tolist() == one["ids"]
        decoded = case["BTokenizer.decode(first)"][0].strip()
        assert tokenizer.decode(case[kind][0]["ids"]) == decoded


@pytest.mark.golden
def test_recorded_encodings_of_pretraining_are_reproduced(golden, vocab):
    path = golden / "pretrain_data/pretrain_data.json.gz"
    if not path.exists():
        pytest.skip("no pretrain_data case")
    cases = json.loads(gzip.decompress(path.read_bytes()))["bert_ids"]
    tokenizer = WordPieceTokenizer(vocab)
    ours = tokenizer.encode_sentences([case["instruction"] for case in cases])
    for case, ids in zip(cases, ours.tolist(), strict=True):
        assert split_sentences(case["instruction"]) == case["sentences"]
        assert ids == parse_ids("_".join(map(str, case["ids"]))).tolist()


@pytest.mark.golden
def test_recorded_dialogs_are_reproduced(golden, vocab):
    path = golden / "ndh/ndh_agent.json.gz"
    if not path.exists():
        pytest.skip("no ndh_agent case")
    case = json.loads(gzip.decompress(path.read_bytes()))
    items = {str(item["inst_idx"]): item for item in case["items"]}
    kinds = [kind for kind in case["encodings"] if "/BTokenizer/" in kind]
    for kind in kinds:
        history, _, length = kind.split("/")
        tokenizer = WordPieceTokenizer(
            vocab, int(length), truncate="left", extra_tokens=DIALOG_TOKENS
        )
        assert len(tokenizer) == case["tokenizer_len"]
        for key, recorded in case["encodings"][kind].items():
            dialog, target = items[key]["dialog_history"], items[key]["target"]
            turns = dialog_turns(dialog, target, history)
            assert " ".join(f"{a} {b}" for a, b in turns) == recorded["instructions"]
            assert tokenizer.encode_dialog(dialog, target, history).tolist() == recorded["ids"]


def test_a_cut_text_ends_with_sep_or_keeps_its_end(small):
    right = WordPieceTokenizer(small, 4).encode("go left go left")
    left = WordPieceTokenizer(small, 4, truncate="left").encode("go left go left")
    assert right.tolist() == [2, 5, 6, 3]
    assert left.tolist() == [6, 5, 6, 3]


def test_sentences_are_separated_for_pretraining(small):
    tokenizer = WordPieceTokenizer(small, 10)
    assert tokenizer.encode_sentences(["Go left. Turns left."])[0].tolist() == [
        *[2, 5, 6, 7, 3],
        *[8, 9, 6, 7, 3],
    ]
    assert tokenizer.encode_sentences([]).shape == (0, 10)
    agents = WordPieceTokenizer(small, 10, separate_sentences=True)
    for text in ("Go left. Turns left.", "go", "Go left. Go left. Go left. Go left."):
        assert agents.encode(text).tolist() == tokenizer.encode_sentences([text])[0].tolist()


def test_codes_know_the_special_words(small):
    codes = WordPieceTokenizer(small).codes
    assert codes == (12, 4, (0, 1, 2, 3, 4))


def test_a_missing_or_foreign_vocabulary_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="--vocabulary"):
        WordPieceTokenizer(tmp_path / "none.txt")
    (tmp_path / "vocab.txt").write_text("go\n")
    with pytest.raises(ValueError, match=r"has no \[PAD\]"):
        WordPieceTokenizer(tmp_path / "vocab.txt")


def test_an_unknown_history_is_refused():
    with pytest.raises(ValueError, match="must be one of none, target"):
        dialog_turns([], "sofa", "some")


@pytest.fixture
def recorded(golden):
    path = golden / "models/tokenizers.json"
    if not path.exists():
        pytest.skip("no tokenizers case")
    return json.loads(path.read_text())


@pytest.fixture
def words(data_dir):
    return read_vocabulary(data_dir / "r2r/train_vocab.txt")


@pytest.mark.golden
def test_recorded_words_are_reproduced(recorded):
    kinds = [kind for kind in recorded if kind.startswith("Tokenizer(")]
    assert kinds
    for kind in kinds:
        for case in recorded[kind]:
            assert split_words(case["s"]) == case["tokens"]


@pytest.mark.golden
def test_recorded_numbers_are_reproduced(recorded, words):
    for kind in (kind for kind in recorded if kind.startswith("Tokenizer(")):
        tokenizer = WordTokenizer(words, int(kind[len("Tokenizer(") : -1]))
        for case in recorded[kind]:
            ours = tokenizer.encode(case["s"])
            assert (None if ours is None else ours.tolist()) == case["ids"]
        first = recorded[kind][0]["ids"]
        assert len(tokenizer) == recorded["vocab_size"]
        assert tokenizer.decode(first) == recorded["decode"]
        assert tokenizer.shrink(first) == recorded["shrink"]
        assert tokenizer.shrink([5, 6]) == recorded["shrink_no_eos"]


@pytest.mark.golden
def test_recorded_encodings_of_the_environment_are_reproduced(golden, words):
    cases = sorted(golden.glob("env/env_r2r_*.json.gz"))
    if not cases:
        pytest.skip("no env_r2r case")
    for path in cases:
        for batch in json.loads(gzip.decompress(path.read_bytes()))["batches"]:
            for item, ids in zip(batch["items"], batch["instr_encoding"], strict=True):
                ours = WordTokenizer(words, len(ids)).encode(item["instructions"])
                assert ours.tolist() == ids


def test_the_official_vocabulary_is_rebuilt_from_the_training_split(data_dir, words):
    texts = [one.text for one in expand(read_paths(data_dir, "train"))]
    ours = build_vocabulary(texts)
    assert len(ours) == len(words)
    assert sorted(ours) == sorted(words)


@pytest.mark.golden
def test_recorded_dialogs_are_reproduced_in_words(golden, words):
    path = golden / "ndh/ndh_agent.json.gz"
    if not path.exists():
        pytest.skip("no ndh_agent case")
    case = json.loads(gzip.decompress(path.read_bytes()))
    items = {str(item["inst_idx"]): item for item in case["items"]}
    kinds = [kind for kind in case["encodings"] if "/Tokenizer/" in kind]
    assert kinds
    for kind in kinds:
        history, _, length = kind.split("/")
        tokenizer = DialogWordTokenizer(words, int(length))
        for key, recorded in case["encodings"][kind].items():
            item = items[key]
            ours = tokenizer.encode_dialog(item["dialog_history"], item["target"], history)
            assert ours.tolist() == recorded["ids"]


def test_a_dialog_is_reversed_turn_by_turn_and_cut_at_its_start():
    tokenizer = DialogWordTokenizer(["<PAD>", "<UNK>", "<EOS>", "go", "left", "sofa"], 6)
    dialog = [
        {"role": "navigator", "message": "go ?"},
        {"role": "oracle", "message": "go left"},
    ]
    ours = tokenizer.encode_dialog(dialog, "sofa", "oracle_ans")
    assert ours.tolist() == [3, 7, 6, 4, 8, 5]
    assert tokenizer.encode_dialog(dialog, "sofa", "all").tolist() == [3, 7, 6, 4, 8, 5]
    assert tokenizer.encode_dialog([], "sofa", "all").tolist() == [4, 8, 5, 0, 0, 0]


def test_rare_words_are_left_out_and_frequent_ones_come_first():
    words = build_vocabulary(["b b a a a", "c"], min_count=2)
    assert words == ["<PAD>", "<UNK>", "<EOS>", "a", "b"]


def test_a_written_vocabulary_reads_back(tmp_path):
    write_vocabulary(tmp_path / "v.txt", ["<PAD>", "<UNK>", "<EOS>", "go"])
    assert read_vocabulary(tmp_path / "v.txt") == ["<PAD>", "<UNK>", "<EOS>", "go"]


def test_a_vocabulary_without_start_words_is_refused(tmp_path):
    (tmp_path / "v.txt").write_text("go\n")
    with pytest.raises(ValueError, match="must begin with <PAD>"):
        read_vocabulary(tmp_path / "v.txt")


def test_a_long_text_still_ends_with_eos():
    tokenizer = WordTokenizer(["<PAD>", "<UNK>", "<EOS>", "go"], 4)
    assert tokenizer.encode("go go go go go").tolist() == [4, 3, 3, 2]
    assert tokenizer.encode("go").tolist() == [4, 3, 2, 0]
    assert tokenizer.encode("   ") is None
