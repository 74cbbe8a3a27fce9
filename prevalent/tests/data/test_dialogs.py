"""Dialog files, path types and texts."""

import gzip
import json

import numpy as np
import pytest

from prevalent.data.ndh import (
    encode_dialogs,
    open_dialog_pieces,
    open_dialog_words,
    read_dialogs,
    tell,
    to_dialog,
)
from prevalent.data.tokenizers import DIALOG_LENGTHS, DIALOG_TOKENS, build_wordpiece_vocabulary
from tests.small_dialogs import make_item


@pytest.fixture
def vocabulary(tmp_path):
    words = build_wordpiece_vocabulary(["go", "left", "past", "the", "bed", "sofa", "<", ">"])
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    return tmp_path / "vocab.txt"


def write(folder, items, name="val"):
    (folder / "ndh").mkdir(exist_ok=True)
    (folder / "ndh" / f"{name}.json").write_text(json.dumps(items))
    return folder


def test_each_path_type_asks_for_its_own_walk(tmp_path):
    reached = make_item(1, "house", "abcd", plan="abc")
    lost = make_item(2, "house", "ad", plan="abc")
    write(tmp_path, [reached, lost])
    for path_type, paths in (
        ("planner_path", ["abc", "abc"]),
        ("player_path", ["abcd", "ad"]),
        ("trusted_path", ["abcd", "abc"]),
    ):
        dialogs = read_dialogs(tmp_path, "val", path_type)
        assert ["".join(one.path) for one in dialogs] == paths
    assert [one.id for one in dialogs] == ["1", "2"]
    assert dialogs[0].heading == 0.5


def test_a_test_split_has_a_start_alone(tmp_path):
    item = make_item(1, "house", "abcd")
    for key in ("player_path", "planner_path", "end_panos"):
        del item[key]
    (dialog,) = read_dialogs(write(tmp_path, [item]), "val")
    assert dialog.path == ("a",)
    assert not dialog.has_paths
    assert dialog.reference.start == "a"


def test_a_part_of_a_split_is_drawn_with_a_fixed_seed(tmp_path):
    write(tmp_path, [make_item(i, "house", "ab") for i in range(9)])
    some = [one.id for one in read_dialogs(tmp_path, "val@3")]
    assert some == [one.id for one in read_dialogs(tmp_path, "val@5")][:3]
    assert len(read_dialogs(tmp_path, f"{tmp_path}/ndh/val.json@4")) == 4


def test_a_missing_file_or_field_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.json does not exist.*prepare ndh"):
        read_dialogs(tmp_path, "train")
    item = make_item(1, "house", "ab")
    del item["target"]
    with pytest.raises(ValueError, match=r"val\.json: item 0 has no 'target'"):
        read_dialogs(write(tmp_path, [item]), "val")
    with pytest.raises(ValueError, match="'x' after @ must be a whole number"):
        read_dialogs(tmp_path, "val@x")


def test_the_tags_are_special_pieces_in_either_spelling(vocabulary):
    dialog = to_dialog(make_item(1, "house", "ab", turns=2), "trusted_path")
    theirs = open_dialog_pieces(vocabulary, 20)
    ours = open_dialog_pieces(vocabulary, 20, tags="whole")
    assert len(theirs) == len(ours) == len(vocabulary.read_text().splitlines()) + 3
    first = len(theirs) - len(DIALOG_TOKENS)
    for tokenizer, length in ((theirs, 11), (ours, 7)):
        ids = encode_dialogs([dialog], tokenizer, "oracle_ans")[0]
        assert {first + 1, first + 2} < set(ids.tolist())
        assert (ids != 0).sum() == length + 2  # the tag, 'lamp' as an unknown word, [CLS], [SEP]


def test_a_cut_dialog_may_keep_its_first_piece(vocabulary):
    dialog = to_dialog(make_item(1, "house", "ab"), "trusted_path")
    cut = open_dialog_pieces(vocabulary, 6)
    kept = open_dialog_pieces(vocabulary, 6, keep_first=True)
    a, b = (encode_dialogs([dialog], one, "all")[0] for one in (cut, kept))
    np.testing.assert_array_equal(a[1:], b[1:])
    assert (a[0] == 2, b[0] == 2) == (False, True)


def test_both_kinds_of_word_files_give_the_same_numbers(tmp_path):
    (tmp_path / "r2r.txt").write_text("<PAD>\n<UNK>\n<EOS>\ngo\nleft\n")
    (tmp_path / "ndh.txt").write_text("<PAD>\n<UNK>\n<NAV>\n<ORA>\n<TAR>\n<EOS>\ngo\nleft\n")
    a, b = (open_dialog_words(tmp_path / f"{name}.txt", 9) for name in ("r2r", "ndh"))
    assert a.words == b.words
    (tmp_path / "odd.txt").write_text("go\n")
    with pytest.raises(ValueError, match="must begin with <PAD>, <UNK>"):
        open_dialog_words(tmp_path / "odd.txt", 9)
    with pytest.raises(FileNotFoundError, match="--words"):
        open_dialog_words(tmp_path / "none.txt", 9)


def test_a_dialog_is_told():
    dialog = to_dialog(make_item(1, "house", "ab", turns=2), "trusted_path")
    assert tell(dialog, "nav_q_oracle_ans") == (
        "<NAV> left or right <ORA> go past the lamp <TAR> sofa"
    )


def test_official_files_are_read_for_every_path_type(data_dir):
    for split in ("val_seen", "val_unseen"):
        for path_type in ("planner_path", "player_path", "trusted_path"):
            dialogs = read_dialogs(data_dir, split, path_type)
            assert len({one.id for one in dialogs}) == len(dialogs)
            assert all(one.path[0] == one.item["start_pano"]["pano"] for one in dialogs)


def test_the_official_word_file_equals_the_room_to_room_one_with_tags(data_dir):
    if not (data_dir / "ndh/train_vocab.txt").is_file():
        pytest.skip("no NDH vocabulary in the data folder")
    a = open_dialog_words(data_dir / "ndh/train_vocab.txt", 9)
    assert a.words == open_dialog_words(data_dir / "r2r/train_vocab.txt", 9).words


@pytest.mark.golden
def test_recorded_texts_paths_and_special_ids_are_reproduced(golden, data_dir):
    path = golden / "ndh/ndh_agent.json.gz"
    if not path.exists():
        pytest.skip("this golden folder has no ndh/ndh_agent")
    case = json.loads(gzip.decompress(path.read_bytes()))
    dialogs = {str(i["inst_idx"]): to_dialog(i, "trusted_path") for i in case["items"]}
    pieces = data_dir / "vocab/bert/bert-base-uncased-vocab.txt"
    words = data_dir / "r2r/train_vocab.txt"
    for kind, recorded in case["encodings"].items():
        history, tokenizer, length = kind.split("/")
        assert DIALOG_LENGTHS[history] == int(length)
        opened = (
            open_dialog_pieces(pieces, int(length))
            if tokenizer == "BTokenizer"
            else open_dialog_words(words, int(length))
        )
        ours = encode_dialogs([dialogs[name] for name in recorded], opened, history)
        for row, (name, theirs) in zip(ours, recorded.items(), strict=True):
            assert row.tolist() == theirs["ids"]
            assert list(dialogs[name].path) == theirs["trusted_path"]
            assert tell(dialogs[name], history) == theirs["instructions"]
    tokenizer = open_dialog_pieces(pieces, 9)
    for word, number in case["special_ids"].items():
        assert tokenizer.number_of(word) == number
