import gzip
import json

import pytest

from prevalent.data.tokenizers import (
    DIALOG_TOKENS,
    WordPieceTokenizer,
    build_wordpiece_vocabulary,
    dialog_turns,
    parse_ids,
    split_sentences,
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
