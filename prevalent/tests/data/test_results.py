"""Result files are read strictly and checked against the graph."""

import gzip
import json
from dataclasses import replace
from itertools import pairwise

import pytest

from prevalent.data.results import (
    Reference,
    Result,
    Step,
    check_results,
    read_references,
    read_results,
    score_results,
    write_submission,
)
from tests.factories import make_graphs

GRAPHS = make_graphs()  # a square a - b - c - d
REFERENCES = [Reference("1_0", "house", "a", {}), Reference("1_1", "house", "a", {})]


def walk(*viewpoints):
    return Result("1_0", tuple(Step(viewpoint, 0.0, 0.0) for viewpoint in viewpoints))


GOOD = {"1_0": walk("a", "a", "b", "c"), "1_1": walk("a")}


def test_a_complete_file_passes():
    check_results(GOOD, REFERENCES, GRAPHS)


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ({"1_0": GOOD["1_0"]}, r"instruction '1_1' of the split has no result \(1 of 2"),
        (GOOD | {"9_0": walk("a")}, "result '9_0' belongs to no instruction"),
        (GOOD | {"1_1": walk("b")}, "result '1_1' begins at 'b', its instruction at 'a'"),
        (GOOD | {"1_1": walk("a", "c")}, "'1_1' jumps at step 1 from 'a' to 'c', which share no"),
        (GOOD | {"1_1": walk("a", "x")}, "'1_1': .*'x'"),
    ],
)
def test_the_first_offender_is_named(results, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_results(results, REFERENCES, GRAPHS)


def test_a_part_and_jumps_pass_on_request():
    check_results({"1_0": walk("a", "c")}, REFERENCES, GRAPHS, allow_missing=True, allow_jumps=True)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "not valid JSON"),
        ("{}", "must hold a list of records"),
        ('[{"trajectory": []}]', "record 0 has no 'instr_id'"),
        ('[{"instr_id": "1_0", "trajectory": []}]', "record 0 must list"),
        ('[{"instr_id": "1_0", "trajectory": [["a", 0]]}]', r"step 0 of 'trajectory' must be"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, content, sentence):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=sentence):
        read_results(path, "r2r")


def test_a_repeated_instruction_is_refused(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"instr_id": "1_0", "trajectory": [["a", 0, 0]]}] * 2))
    with pytest.raises(ValueError, match="'1_0' occurs twice"):
        read_results(path, "r2r")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; name a file of results"):
        read_results(tmp_path / "none.json", "r2r")


def test_a_submission_can_be_read_back(tmp_path):
    results = {name: replace(result, key=name) for name, result in GOOD.items()}
    write_submission(tmp_path / "out" / "submit.json", results, "r2r")
    assert read_results(tmp_path / "out" / "submit.json", "r2r") == results


@pytest.mark.parametrize("task", ["ndh", "hanna"])
def test_references_of_the_other_tasks(tmp_path, task):
    items = {
        "ndh": {"inst_idx": 4, "scan": "house", "start_pano": {"pano": "a"}},
        "hanna": {"path_id": 4, "scan": "house", "paths": [["a", "b"]], "instructions": ["find"]},
    }
    folder = tmp_path / task
    folder.mkdir()
    name = "val.json" if task == "ndh" else "hanna_val.json"
    (folder / name).write_text(json.dumps([items[task]]))
    (reference,) = read_references(tmp_path, task, "val")
    assert (reference.id, reference.start) == ("4" if task == "ndh" else "4_0", "a")


def test_a_start_without_a_place_is_named(tmp_path):
    (tmp_path / "ndh").mkdir()
    items = [{"inst_idx": 4, "scan": "house", "start_pano": {"heading": 0}}]
    (tmp_path / "ndh" / "val.json").write_text(json.dumps(items))
    with pytest.raises(ValueError, match=r"val\.json: item 0: 'start_pano'.*'pano'"):
        read_references(tmp_path, "ndh", "val")


def test_real_predictions_are_possible_walks(data_dir, real_graphs):
    references = read_references(data_dir, "r2r", "val_seen")
    path = data_dir / "r2r" / "predictions" / "val_seen_seq2seq.json"
    results = read_results(path, "r2r")
    check_results(results, references, real_graphs)
    assert any(a != b for r in results.values() for a, b in pairwise(r.viewpoints))


@pytest.mark.parametrize(
    "step",
    [
        '["a", "b", "c"]',
        '["a", NaN, 0]',
        '["a", 0, Infinity]',
        '["a", -1e999, 0]',
        '["a", "abc", 0]',
        '["a", "0", "0"]',
        '["a", 1e9, 0]',
        '["a", true, 0]',
        '["a", null, 0]',
        '["a", [0], 0]',
        '["a", 0, 0, 0]',
        "[1, 0, 0]",
        '"abc"',
        '{"viewpoint": "a"}',
    ],
)
@pytest.mark.parametrize("task", ["r2r", "ndh", "hanna"])
def test_a_step_that_is_none_is_named_by_file_record_and_place(tmp_path, step, task):
    path, (key, field) = tmp_path / "results.json", FORMS[task]
    good = f'{{"{key}": 1, "{field}": [["a", 0, 0]]}}'
    path.write_text(f'[{good}, {{"{key}": 2, "{field}": [["a", 0, 0.5], {step}]}}]')
    with pytest.raises(ValueError, match=rf"results\.json: record 1: step 1 of '{field}' must be"):
        read_results(path, task)


FORMS = {
    "r2r": ("instr_id", "trajectory"),
    "ndh": ("inst_idx", "trajectory"),
    "hanna": ("instr_id", "agent_pose"),
}


def test_results_are_records_with_steps(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('[{"instr_id": "1_0", "trajectory": [["a", 1, 0.5], ["b", 2, 0]], "x": 3}]')
    (result,) = read_results(path, "r2r").values()
    assert (result.id, result.viewpoints, result.rest) == ("1_0", ["a", "b"], {"x": 3})
    assert result.steps[0] == Step(viewpoint="a", heading=1, elevation=0.5)
    with pytest.raises(AttributeError):
        result.key = "other"


def test_packed_results_are_read(tmp_path):
    content = b'[{"instr_id": "1_0", "trajectory": [["a", 0, 0]]}]'
    path = tmp_path / "results.json.gz"
    path.write_bytes(gzip.compress(content))
    assert list(read_results(path, "r2r")) == ["1_0"]
    for damaged in (path.read_bytes()[:-9], content):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"results\.json\.gz is no whole gzip file"):
            read_results(path, "r2r")


def test_a_folder_of_results_is_called_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="is a folder, not a file; name a file of results"):
        read_results(tmp_path, "r2r")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_submission_is_strict_json_or_none(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_submission(tmp_path / "s.json", {"1": Result("1", (Step("a", value, 0.0),))}, "r2r")
    assert not list(tmp_path.iterdir())


REQUESTS = {
    "instr_id": "1_0",
    "agent_pose": [["a", 0, 0], ["b", 0, 0]],
    "agent_ask": [1],
    "agent_nav": [0],
    "target_viewpoints": [["b"], ["b"]],
}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"agent_ask": [1, 1]}, "'agent_ask' has 2 entries, its 2 steps need 1"),
        ({"agent_ask": ["yes"]}, "'agent_ask' must be a list of whole numbers"),
        ({"target_viewpoints": [["b"]]}, "'target_viewpoints' has 1 entries, its 2 steps need 2"),
        ({"target_viewpoints": None}, "'target_viewpoints' must be a list"),
        ({"teacher_nav": [0]}, "has no 'instruction'"),
    ],
)
def test_requests_that_do_not_fit_the_walk_are_named(tmp_path, changes, sentence):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([REQUESTS | changes]))
    with pytest.raises(ValueError, match=rf"results\.json: record 0.*{sentence}"):
        read_results(path, "hanna")
    path.write_text(json.dumps([REQUESTS]))
    assert read_results(path, "hanna")["1_0"].rest["agent_ask"] == [1]


R2R_ITEM = {"path_id": 7, "scan": "house", "heading": 0.0, "path": ["a", "b"], "instructions": [""]}
NDH_ITEM = {"inst_idx": 7, "scan": "house", "start_pano": {"pano": "a"}}
HANNA_ITEM = {"path_id": 7, "scan": "house", "paths": [["a", "b"]], "instructions": [""]}
FILES = {
    "r2r": ("r2r/R2R_val.json", R2R_ITEM, "7_0"),
    "ndh": ("ndh/val.json", NDH_ITEM, "7"),
    "hanna": ("hanna/hanna_val.json", HANNA_ITEM, "7_0"),
}


@pytest.mark.parametrize("task", FILES)
def test_two_instructions_of_one_id_are_the_fault_of_their_file(tmp_path, task):
    name, item, one = FILES[task]
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(json.dumps([item, item]))
    with pytest.raises(ValueError, match=rf"val.*: 2 instructions have the id '{one}'"):
        read_references(tmp_path, task, "val")


@pytest.mark.parametrize(
    ("task", "item"),
    [
        ("r2r", {"path": ("a",)}),
        ("ndh", {"planner_path": ["a"], "player_path": ["a"]}),
        ("ndh", {"planner_path": ["a"], "player_path": ["a"], "end_panos": []}),
        ("ndh", {"player_path": ["a"], "end_panos": ["a"]}),
    ],
)
def test_one_hidden_goal_is_enough_to_score_nothing(task, item):
    whole = {"path": ("a", "b"), "planner_path": ["a", "b"], "player_path": ["a", "b"]}
    references = [
        Reference("1_0", "house", "a", {**whole, "end_panos": ["b"]}),
        Reference("1_1", "house", "a", item),
    ]
    with pytest.raises(ValueError, match=r"1_1 .*has no goals to score against.*prevalent submit"):
        score_results(GOOD, references, GRAPHS, task)
