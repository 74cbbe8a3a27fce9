"""Result files are read strictly and checked against the graph."""

import json
from itertools import pairwise

import pytest

from prevalent.data.results import (
    Reference,
    check_results,
    read_references,
    read_results,
    write_submission,
)
from tests.factories import make_graphs

GRAPHS = make_graphs()  # a square a - b - c - d
REFERENCES = [Reference("1_0", "house", "a", {}), Reference("1_1", "house", "a", {})]


def walk(*viewpoints):
    return {"trajectory": [[viewpoint, 0.0, 0.0] for viewpoint in viewpoints]}


GOOD = {"1_0": walk("a", "a", "b", "c"), "1_1": walk("a")}


def test_a_complete_file_passes():
    check_results(GOOD, REFERENCES, GRAPHS, "r2r")


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ({"1_0": GOOD["1_0"]}, r"instruction '1_1' has no result \(1 of 2"),
        (GOOD | {"9_0": walk("a")}, "result '9_0' belongs to no instruction"),
        (GOOD | {"1_1": walk("b")}, "result '1_1' begins at 'b', its instruction at 'a'"),
        (GOOD | {"1_1": walk("a", "c")}, "'1_1' jumps at step 1 from 'a' to 'c', which share no"),
        (GOOD | {"1_1": walk("a", "x")}, "'1_1': .*'x'"),
    ],
)
def test_the_first_offender_is_named(results, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_results(results, REFERENCES, GRAPHS, "r2r")


def test_a_part_and_jumps_pass_on_request():
    check_results(
        {"1_0": walk("a", "c")}, REFERENCES, GRAPHS, "r2r", allow_missing=True, allow_jumps=True
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "not valid JSON"),
        ("{}", "must hold a list of records"),
        ('[{"trajectory": []}]', "record 0 has no 'instr_id'"),
        ('[{"instr_id": "1_0", "trajectory": []}]', "record 0 must list"),
        ('[{"instr_id": "1_0", "trajectory": [["a", 0]]}]', "record 0 must list"),
    ],
)
def test_a_malformed_file_is_named(tmp_path, content, sentence):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=sentence):
        read_results(path, "r2r")


def test_a_repeated_instruction_is_refused(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"instr_id": "1_0", **walk("a")}] * 2))
    with pytest.raises(ValueError, match="'1_0' occurs twice"):
        read_results(path, "r2r")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="name an existing file with --results"):
        read_results(tmp_path / "none.json", "r2r")


def test_a_submission_can_be_read_back(tmp_path):
    records = {name: {"instr_id": name, **record} for name, record in GOOD.items()}
    write_submission(tmp_path / "out" / "submit.json", records, "r2r")
    assert read_results(tmp_path / "out" / "submit.json", "r2r") == records


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
    check_results(results, references, real_graphs, "r2r")
    assert any(a[0] != b[0] for r in results.values() for a, b in pairwise(r["trajectory"]))
