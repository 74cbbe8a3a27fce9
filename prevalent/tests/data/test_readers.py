"""Dialog files, path types and texts."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from prevalent.data.hanna import (
    SpaceTokenizer,
    build_space_vocabulary,
    read_routes,
    read_tasks,
    references,
    resolve_split,
)
from prevalent.data.instructions import BatchOrder, expand, read_instructions, read_paths
from prevalent.data.ndh import (
    encode_dialogs,
    open_dialog_pieces,
    open_dialog_words,
    read_dialogs,
    tell,
    to_dialog,
)
from prevalent.data.records import NAME, NUMBER, check_record, read_json, read_json_list
from prevalent.data.tokenizers import DIALOG_LENGTHS, DIALOG_TOKENS, build_wordpiece_vocabulary
from tests.small_ndh import make_item


def write_split(folder, name="train", count=8):
    items = [
        {
            "path_id": i,
            "scan": f"scan{i % 2}",
            "path": ["a", "b"],
            "heading": 0.5,
            "distance": 3.5,
            "instructions": [f"go {i}", "stop"],
        }
        for i in range(count)
    ]
    folder.mkdir(exist_ok=True)
    (folder / f"R2R_{name}.json").write_text(json.dumps(items))
    return items


@pytest.mark.golden
def test_the_recorded_order_of_pretraining_is_reproduced(golden, tmp_path):
    path = golden / "pretrain_data/pretrain_data.json.gz"
    if not path.exists():
        pytest.skip("no pretrain_data case")
    case = json.loads(gzip.decompress(path.read_bytes()))
    (tmp_path / "items.json").write_text(json.dumps(case["items"]))
    ours = read_instructions(tmp_path, [f"{tmp_path}/items.json"])
    assert [one.id for one in ours] == case["data_order_seed10"]


@pytest.mark.golden
def test_the_recorded_order_of_fine_tuning_is_reproduced(golden, data_dir):
    cases = sorted(golden.glob("env/env_r2r_*.json.gz"))
    if not cases:
        pytest.skip("no env_r2r case")
    for path in cases:
        case = json.loads(gzip.decompress(path.read_bytes()))
        ours = read_instructions(data_dir, [case["split"]], scans=case["scans"])
        order = case["order_first_60_after_seed10_shuffle"]
        assert len(ours) == case["n_items"]
        assert [one.id for one in ours[: len(order)]] == order
        batches = BatchOrder(len(ours), case["batch_size"])
        for batch in case["batches"]:
            assert [ours[i].id for i in next(batches)] == [i["instr_id"] for i in batch["items"]]


def test_real_splits_have_the_official_sizes(data_dir):
    counts = {"val_seen": (340, 1021), "val_unseen": (783, 2349), "test": (1391, 4173)}
    for split, (paths, instructions) in counts.items():
        items = read_paths(data_dir, split)
        assert (len(items), len(expand(items))) == (paths, instructions)


def test_a_smaller_sample_is_part_of_a_larger_one(tmp_path):
    write_split(tmp_path)
    few = [item["path_id"] for item in read_paths(tmp_path, "train@3")]
    more = [item["path_id"] for item in read_paths(tmp_path, "train@5")]
    assert few == more[:3]
    assert len(set(more)) == 5


def test_instructions_are_expanded_and_filtered_by_scan(tmp_path):
    write_split(tmp_path)
    ours = read_instructions(tmp_path, ["train"], scans={"scan1"}, shuffle_seed=None)
    assert [one.id for one in ours[:3]] == ["1_0", "1_1", "3_0"]
    assert ours[0].path == ("a", "b")
    assert ours[0].text == "go 1"


def test_a_missing_split_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"R2R_train\.json.*prepare r2r"):
        read_paths(tmp_path, "train")


def test_the_last_batch_is_completed_after_a_shuffle():
    batches = BatchOrder(5, 3)
    assert next(batches) == [0, 1, 2]
    second = next(batches)
    assert second[:2] == [3, 4]
    assert set(second) <= set(range(5))


def test_batches_larger_than_the_data_are_filled():
    assert len(next(BatchOrder(2, 5))) == 5


def test_a_restored_order_continues_exactly():
    whole, first, second = BatchOrder(7, 3), BatchOrder(7, 3), BatchOrder(7, 3)
    expected = [next(whole) for _ in range(9)]
    begun = [next(first) for _ in range(4)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert begun + [next(second) for _ in range(5)] == expected


@pytest.fixture
def vocabulary(tmp_path):
    words = build_wordpiece_vocabulary(["go", "left", "past", "the", "bed", "sofa", "<", ">"])
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    return tmp_path / "vocab.txt"


def write_dialogs(folder, items, name="val"):
    (folder / "ndh").mkdir(exist_ok=True)
    (folder / "ndh" / f"{name}.json").write_text(json.dumps(items))
    return folder


def test_each_path_type_asks_for_its_own_walk(tmp_path):
    reached = make_item(1, "house", "abcd", plan="abc")
    lost = make_item(2, "house", "ad", plan="abc")
    write_dialogs(tmp_path, [reached, lost])
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
    (dialog,) = read_dialogs(write_dialogs(tmp_path, [item]), "val")
    assert dialog.path == ("a",)
    assert not dialog.has_paths
    assert dialog.reference.start == "a"


def test_a_part_of_a_split_is_drawn_with_a_fixed_seed(tmp_path):
    write_dialogs(tmp_path, [make_item(i, "house", "ab") for i in range(9)])
    some = [one.id for one in read_dialogs(tmp_path, "val@3")]
    assert some == [one.id for one in read_dialogs(tmp_path, "val@5")][:3]
    assert len(read_dialogs(tmp_path, f"{tmp_path}/ndh/val.json@4")) == 4


def test_a_missing_file_or_field_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.json does not exist.*prepare ndh"):
        read_dialogs(tmp_path, "train")
    item = make_item(1, "house", "ab")
    del item["target"]
    with pytest.raises(ValueError, match=r"val\.json: item 0 has no 'target'"):
        read_dialogs(write_dialogs(tmp_path, [item]), "val")
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


ITEM = {
    "path_id": 7,
    "scan": "house",
    "heading": 1.5,
    "paths": [["a", "b"], ["a", "d", "c"]],
    "instructions": ["find a bed .", "find the bed"],
}
ROUTE = {"path_id": "r", "path": ["a", "b"], "view_id": 13, "split": "val", "instruction": "go"}


def write(folder, name, content):
    (folder / "hanna").mkdir(exist_ok=True)
    (folder / "hanna" / name).write_text(json.dumps(content))


def test_tasks_have_all_goals_and_one_entry_for_each_text(tmp_path):
    write(tmp_path, "hanna_val_seen.json", [ITEM])
    tasks = read_tasks(tmp_path, "val_seen_env_seen_anna")
    assert [task.id for task in tasks] == ["7_0", "7_1"]
    assert (tasks[0].start, tasks[0].goals, tasks[0].path) == ("a", ("b", "c"), ("a", "b"))
    assert references(tasks)[1].item["paths"][1][-1] == "c"


def test_routes_are_read_in_file_order_for_the_scans_asked_for(tmp_path):
    write(tmp_path, "routes.json", {"house": [ROUTE, {**ROUTE, "path_id": 2}], "other": [ROUTE]})
    assert [route.id for route in read_routes(tmp_path, ["house"])] == ["r", 2]
    assert len(read_routes(tmp_path)) == 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", ("train", "train_seen")),
        ("val_seen", ("val_seen", "train_unseen")),
        ("test_seen_env_seen_anna", ("test_seen", "train_seen")),
        ("test_seen_env_unseen_anna", ("test_seen", "train_unseen")),
        ("val_unseen", ("val_unseen", "val")),
        ("test_unseen", ("test_unseen", "test")),
    ],
)
def test_a_split_says_which_routes_anna_tells(name, expected):
    assert resolve_split(name) == expected


def test_a_split_or_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="'val' is none of train"):
        resolve_split("val")
    with pytest.raises(FileNotFoundError, match="prevalent prepare hanna"):
        read_tasks(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match=r"routes\.json"):
        read_routes(tmp_path)


def test_words_between_spaces_are_numbered_and_end_with_eos():
    words = build_space_vocabulary(["find a bed .", "a door"], ("<PAD>", "<UNK>", "<EOS>"))
    assert words[3:] == ["find", "a", "bed", ".", "door"]
    tokenizer = SpaceTokenizer(words, max_length=6)
    assert tokenizer.encode("find a Bed").tolist() == [3, 4, 5, 2, 0, 0]
    assert tokenizer.encode("a a a a a a unknown").tolist() == [4, 4, 4, 4, 4, 2]
    assert tokenizer.encode("mystery").tolist()[:2] == [1, 2]
    assert tokenizer.encode("").tolist()[:2] == [2, 0]


FIELDS = {"id": NAME, "heading": NUMBER, "path": [str], "paths": [[str]], "start": dict}
GOOD = {"id": 1, "heading": 0.5, "path": ["a"], "paths": [["a"], []], "start": {}}


def test_a_record_with_all_fields_passes():
    check_record({**GOOD, "more": None}, FIELDS, "file: item 0")
    check_record({**GOOD, "id": "1_0", "heading": 2}, FIELDS, "file: item 0")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"id": None}, "file: item 3: 'id' must be a number or text, not None"),
        ({"heading": float("nan")}, "'heading' must be a finite number, not nan"),
        ({"heading": "north"}, "'heading' must be a finite number, not 'north'"),
        ({"path": "abc"}, "'path' must be a list of texts, not 'abc'"),
        ({"path": ["a", 5]}, r"'path' must be a list of texts, not \['a', 5\]"),
        ({"paths": ["a"]}, "'paths' must be a list of lists of texts"),
        ({"start": []}, "'start' must be a record"),
        ({"path": [1] * 99}, r"not \[[1, ]+\.\.\.$"),
    ],
)
def test_a_field_of_another_kind_is_named_and_shown(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_record({**GOOD, **change}, FIELDS, "file: item 3")


def test_a_field_that_is_absent_is_named():
    with pytest.raises(ValueError, match=r"^file: item 3 has no 'heading'$"):
        check_record({"id": 1}, FIELDS, "file: item 3")


def test_a_file_is_utf_8_with_or_without_a_mark(tmp_path):
    for mark in ("", "\ufeff"):
        (tmp_path / "a.json").write_bytes((mark + '["né 左"]').encode())
        assert read_json(tmp_path / "a.json", "cure") == ["né 左"]


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe[]", b"[" * 100_000])
def test_a_damaged_file_is_named_with_its_cure(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON .*; fetch it again"):
        read_json(tmp_path / "a.json", "fetch it again")


@pytest.mark.parametrize("content", [{}, "text", [1], [[]], None])
def test_anything_but_a_list_of_records_is_named(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"a\.json must hold a list of records"):
        read_json_list(tmp_path / "a.json", "fetch it again")
