"""Corrupt records: counted, named or fatal; what stands beside a text never moves to another."""

import json
from dataclasses import replace

import numpy as np
import pytest

from prevalent.agents.rollout import Episodes
from prevalent.data.datasets import read_walks
from prevalent.data.hanna import read_routes, read_tasks
from prevalent.data.instructions import Instruction, expand, read_instructions, read_paths
from prevalent.data.ndh import open_dialog_words, read_dialogs
from prevalent.data.results import read_references, read_results
from prevalent.data.tokenizers import (
    START_WORDS,
    WordPieceTokenizer,
    WordTokenizer,
    build_wordpiece_vocabulary,
    read_vocabulary,
)
from prevalent.data.triplets import collect_triplets, read_triplets, to_table, write_triplets
from prevalent.environments.navigation import Episode, check_tasks
from prevalent.simulator.graph import SimulatorError
from prevalent.tasks.hanna import train_hanna
from prevalent.tasks.ndh import train_ndh
from prevalent.tasks.r2r import train_r2r
from tests.factories import make_graphs, make_scan
from tests.toy_runs import follower_run, hanna_run, ndh_run

TEXTS = ["go left .", "tourne à gauche — 左に", "turn\u2028right", "walk \x0b on"]
WORDS = ["go", "left", "à", "gauche", "左に", "."]
ITEM = {"path_id": 7, "scan": "house", "heading": 1.5, "path": ["a", "b"], "instructions": TEXTS}
DIALOG = {
    "inst_idx": 3,
    "scan": "house",
    "target": "lamp",
    "start_pano": {"pano": "a", "heading": 0.5},
    "dialog_history": [{"role": "navigator", "message": "where?"}],
}
TASK = {**ITEM, "paths": [["a", "b"]]}
ROUTE = {"path_id": "r", "path": ["a", "b"], "view_id": 13, "split": "val", "instruction": "go"}
STEP = {
    "instr_id": "1_0",
    "path": [["house", "a", 12, 0.0, 0.0]],
    "teacher_actions": [0],
    "teacher_action_emd": [[-1, 90, 90]],
    "instr_encoding": [1],
}


def save(path, content, mark="", newline="\n"):
    path.parent.mkdir(exist_ok=True)
    text = json.dumps(content, ensure_ascii=False, indent=1).replace("\n", newline)
    path.write_bytes((mark + text).encode())
    return path


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order mark"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r\n \r\n"], ids=repr)
def test_instructions_keep_their_texts_places_and_numbers(tmp_path, newline, mark):
    items = [{**ITEM, "path_id": i, "path": ["a", f"goal {i}"]} for i in range(3)]
    save(tmp_path / "R2R_train.json", items, mark, newline)
    read = read_instructions(tmp_path, ["train"], shuffle_seed=None)
    expected = [(f"{i}_{j}", f"goal {i}", text) for i in range(3) for j, text in enumerate(TEXTS)]
    assert [(one.id, one.path[-1], one.text) for one in read] == expected


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"path": None}, "item 1: 'path' must be a list of texts"),
        ({"path": []}, "item 1 has an empty 'path'"),
        ({"heading": "north"}, "item 1: 'heading' must be a finite number"),
        ({"heading": float("nan")}, "item 1: 'heading' must be a finite number"),
        ({"instructions": "go left"}, "item 1: 'instructions' must be a list of texts"),
        ({"instructions": ["go", None]}, "item 1: 'instructions' must be a list of texts"),
    ],
)
def test_a_damaged_instruction_is_named_by_file_and_place(change, sentence):
    with pytest.raises(ValueError, match=f"train: {sentence}"):
        expand([ITEM, {**ITEM, **change}], "train")
    for name in ITEM:
        absent = {key: value for key, value in ITEM.items() if key != name}
        with pytest.raises(ValueError, match=f"item 0 has no '{name}'"):
            expand([absent])


def test_a_damaged_item_is_named_by_its_file_and_place_also_where_few_are_picked(tmp_path):
    bad = {**ITEM, "path": []}
    save(tmp_path / "r2r" / "R2R_train.json", [ITEM] * 6 + [bad] + [ITEM] * 5)
    place = r"r2r/R2R_train\.json: item 6 has an empty 'path'"
    for split in ("train", "train@12", f"{tmp_path}/r2r/R2R_train.json@12"):
        with pytest.raises(ValueError, match=place):
            read_instructions(tmp_path, [split])
        with pytest.raises(ValueError, match=place):
            read_walks(tmp_path, "r2r", split)
    lines = [json.dumps(DIALOG)] * 3 + ["", json.dumps({**DIALOG, "scan": 1})]
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"d\.jsonl line 5: 'scan' must be a text"):
        read_dialogs(tmp_path, f"{tmp_path}/d.jsonl@4")
    with pytest.raises(ValueError, match=r"d\.jsonl line 5: 'scan' must be a text"):
        read_references(tmp_path, "ndh", f"{tmp_path}/d.jsonl@4")


@pytest.mark.parametrize("content", ['[{"scan": ', "", "[1]", "{}"])
def test_a_cut_file_is_an_error_of_one_sentence(tmp_path, content):
    (tmp_path / "R2R_train.json").write_text(content)
    with pytest.raises(ValueError, match=r"R2R_train\.json .*prevalent prepare r2r"):
        read_paths(tmp_path, "train")


def test_texts_without_a_word_are_left_out_and_counted(caplog):
    tokenizer = WordTokenizer([*START_WORDS, *WORDS], 9)
    items = [
        Instruction(f"{i}_0", i, "house", ("a",), 0.0, text)
        for i, text in enumerate(["", "go", " \u3000\r\n", "left"])
    ]
    kept = Episodes.encode(items, tokenizer, "val_seen")
    assert "val_seen: 2 of 4 texts have no word" in caplog.text
    for one, tokens in zip(kept.instructions, kept.tokens, strict=True):
        assert tokens.tolist() == tokenizer.encode(one.text).tolist()
    with pytest.raises(ValueError, match="nothing has no instruction with a word"):
        Episodes.encode(items[:1], tokenizer, "nothing")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"start_pano": {"heading": 0.0}}, "'start_pano' has no 'pano'"),
        ({"start_pano": "a"}, "'start_pano' must be a record"),
        ({"dialog_history": [{"role": "navigator"}]}, "turn 0 has no 'message'"),
        ({"dialog_history": [{"role": "cat", "message": ""}]}, "turn 0 is said by 'cat'"),
        ({"target": None}, "'target' must be a text"),
    ],
)
def test_a_damaged_dialog_is_named_by_file_and_place(tmp_path, change, sentence):
    save(tmp_path / "ndh" / "val.json", [DIALOG, {**DIALOG, **change}])
    with pytest.raises(ValueError, match=rf"val\.json: item 1.* ?{sentence}"):
        read_dialogs(tmp_path, "val")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"paths": []}, "item 1 has no path to a goal"),
        ({"paths": ["a"]}, "item 1: 'paths' must be a list"),
        ({"instructions": "go"}, "item 1: 'instructions' must be a list of texts"),
    ],
)
def test_a_damaged_search_is_named_by_file_and_place(tmp_path, change, sentence):
    save(tmp_path / "hanna" / "hanna_train.json", [TASK, {**TASK, **change}])
    with pytest.raises(ValueError, match=rf"hanna_train\.json: {sentence}"):
        read_tasks(tmp_path, "train")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"house": [ROUTE, {**ROUTE, "path": []}]}, "route 1 of scan 'house' has an empty 'path'"),
        ({"house": [{**ROUTE, "view_id": 1.5}]}, "has the view 1.5, not one of 0..35"),
        ({"house": [{**ROUTE, "view_id": 36}]}, "has the view 36, not one of 0..35"),
        ({"house": [{"path_id": 1}]}, "route 0 of scan 'house' has no 'path'"),
        ([], "must hold routes by scan"),
    ],
)
def test_a_damaged_route_is_named_by_file_scan_and_place(tmp_path, content, sentence):
    save(tmp_path / "hanna" / "routes.json", content)
    with pytest.raises(ValueError, match=rf"routes\.json.*{sentence}"):
        read_routes(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"teacher_actions": [0, 1]}, "has 1 states, 2 actions"),
        ({"path": [["house", "a"]]}, "is damaged"),
        ({"path": [["house", "a", 36, 0, 0]]}, "has a view outside 0..35"),
        ({"path": [["house", "a", "x", 0, 0]]}, "is damaged"),
        ({"teacher_actions": [-1]}, "has an action outside"),
        ({"teacher_actions": [2**40]}, "is damaged"),
        ({"teacher_action_emd": [[36, 0, 0]]}, "has a target view outside -1..35"),
        ({"teacher_action_emd": [[-1, 90]]}, "is damaged"),
        ({"teacher_action_emd": [[-1, 90, float("inf")]]}, "has an angle that is not finite"),
        ({"instr_encoding": [1, 2]}, "has 2 tokens where the first has 1"),
        ({"instr_encoding": [-1]}, "has a negative word piece"),
        ({"instr_encoding": [None]}, "is damaged"),
        ({"instr_encoding": "101"}, "'instr_encoding' must be a list"),
    ],
)
def test_a_damaged_trajectory_is_named_by_file_and_place(tmp_path, change, sentence):
    save(tmp_path / "a.json", [STEP, {**STEP, **change}])
    with pytest.raises(ValueError, match=rf"a\.json, trajectory 1:? {sentence}"):
        read_triplets([tmp_path])
    with pytest.raises(ValueError, match="trajectory 0 has no 'path'"):
        to_table([{key: value for key, value in STEP.items() if key != "path"}])


def test_triplets_keep_their_words_and_places_in_any_file_form(tmp_path):
    graphs = make_graphs()
    walks = [Instruction(f"{i}_0", i, "house", ("a", "b", "c")[i:], 0.0, "") for i in range(2)]
    table = collect_triplets(graphs, walks, np.array([[1, 2], [3, 0]]))
    write_triplets(tmp_path / "a.json", table)
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_bytes(("\ufeff" + text.replace("\n", "\r\n\r\n")).encode())
    assert list(read_triplets([tmp_path / "a.json"]).records()) == list(table.records())
    with pytest.raises(ValueError, match="house_c"):
        table.rows({"house_a": 0, "house_b": 1})


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ({"instr_id": "1_0", "trajectory": {"a": 1}}, "'trajectory' must be a list"),
        ({"instr_id": "1_0", "trajectory": [5]}, "step 0 of 'trajectory' must be"),
        ({"instr_id": None, "trajectory": [["a", 0, 0]]}, "'instr_id' must be a number or text"),
    ],
)
def test_a_damaged_result_is_named_by_file_and_place(tmp_path, record, sentence):
    good = {"instr_id": "0_0", "trajectory": [["a", 0, 0]]}
    path = save(tmp_path / "results.json", [good, record])
    with pytest.raises(ValueError, match=rf"results\.json: record 1: {sentence}"):
        read_results(path, "r2r")
    save(tmp_path / "ndh" / "val.json", [DIALOG, {"inst_idx": 1}])
    with pytest.raises(ValueError, match=r"val\.json: item 1 has no 'scan'"):
        read_references(tmp_path, "ndh", "val")


def vocabulary(path, lines, newline="\n", mark=""):
    path.write_bytes((mark + newline.join(lines) + newline * 2).encode())
    return path


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order mark"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=repr)
def test_words_have_the_numbers_of_their_lines(tmp_path, newline, mark):
    lines = [*START_WORDS, *WORDS, "two\x0bparts", "three"]
    path = vocabulary(tmp_path / "words.txt", lines, newline, mark)
    assert read_vocabulary(path) == lines
    assert open_dialog_words(path, 9).words[-2:] == lines[-2:]


@pytest.mark.parametrize("read", [read_vocabulary, lambda path: open_dialog_words(path, 9)])
def test_a_blank_line_among_words_never_shifts_their_numbers(tmp_path, read):
    path = vocabulary(tmp_path / "words.txt", [*START_WORDS, "go", "  ", "left"])
    with pytest.raises(ValueError, match=r"words\.txt has a blank line 5"):
        read(path)
    path.write_bytes(b"<PAD>\n\xff\n")
    with pytest.raises(ValueError, match=r"words\.txt is not UTF-8"):
        read(path)


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=repr)
def test_a_blank_line_among_word_pieces_keeps_its_number(tmp_path, newline):
    lines = build_wordpiece_vocabulary(["go", "left"])
    path = vocabulary(tmp_path / "vocab.txt", [*lines[:-1], "", lines[-1]], newline)
    tokenizer = WordPieceTokenizer(path, 9)
    assert tokenizer.number_of("left") == len(lines)


def test_a_walk_outside_its_scan_is_named():
    graphs = make_graphs(house=make_scan(edges=[("a", "b"), ("c", "d")], excluded=["d"]))
    for path, sentence in (
        ("ab", None),
        ("axb", "item '7': scan 'house' has no viewpoint 'x'"),
        ("ad", "item '7': viewpoint 'd' of scan 'house' is excluded"),
        ("ac", "item '7': viewpoint 'c' cannot be reached from 'house_a'"),
    ):
        tasks = [Episode("house", tuple("ba"), id="6"), Episode("house", tuple(path), id="7")]
        if sentence is None:
            check_tasks(graphs, tasks)
        else:
            with pytest.raises(SimulatorError, match=sentence):
                check_tasks(graphs, tasks)


@pytest.mark.parametrize(
    ("train", "make_run", "file"),
    [
        (train_r2r, follower_run, "r2r/R2R_train.json"),
        (train_ndh, ndh_run, "ndh/train.json"),
        (train_hanna, hanna_run, "hanna/hanna_train.json"),
    ],
    ids=["r2r", "ndh", "hanna"],
)
def test_a_missing_viewpoint_is_named_before_the_first_step(
    toy_world, tmp_path, train, make_run, file
):
    for path in toy_world.iterdir():
        (tmp_path / path.name).symlink_to(path)
    folder = tmp_path / file.split("/")[0]
    if folder.is_symlink():
        folder.unlink()
        folder.mkdir()
        for path in (toy_world / folder.name).iterdir():
            (folder / path.name).symlink_to(path)
    place = tmp_path / file
    if not place.exists():
        place = tmp_path / file.split("/")[1]
    items = json.loads(place.read_text())
    place.unlink()
    last = items[-1]
    if "paths" in last:
        last["paths"][-1][-1] = "nowhere"
    for name in ("path", "planner_path", "player_path"):
        if name in last:
            last[name][-1] = "nowhere"
    place.write_text(json.dumps(items))
    config = replace(make_run(tmp_path, tmp_path / "run"), held_out=())
    with pytest.raises(SimulatorError, match=r"item '.*': scan '.*' has no viewpoint 'nowhere'"):
        train(config)
    assert not (tmp_path / "run" / "checkpoints").exists()
