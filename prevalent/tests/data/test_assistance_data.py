"""Readers of HANNA's files."""

import json

import pytest

from prevalent.data.hanna import (
    SpaceTokenizer,
    build_space_vocabulary,
    read_routes,
    read_tasks,
    references,
    resolve_split,
)

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
