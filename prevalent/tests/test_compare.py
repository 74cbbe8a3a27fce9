"""Files of results are compared episode by episode, scored one by one, and drawn."""

import csv
import json

import pytest

from prevalent.__main__ import main
from tests.factories import make_scan, write_connectivity

WALKS = {"good": {"1_0": "abc", "1_1": "abc", "2_0": "cda"}}
WALKS["bad"] = WALKS["good"] | {"1_0": "a", "2_0": "c"}


@pytest.fixture
def world(tmp_path):
    """A square a - b - c - d of 2 m sides with two paths, and two agents."""
    write_connectivity(tmp_path / "connectivity", "house", make_scan())
    (tmp_path / "r2r").mkdir()
    items = [
        {"path_id": 1, "scan": "house", "heading": 0.0, "path": list("abc")},
        {"path_id": 2, "scan": "house", "heading": 0.0, "path": list("cda")},
    ]
    for item, texts in zip(items, (["go", "walk"], ["return"]), strict=True):
        item["instructions"] = texts
    (tmp_path / "r2r" / "R2R_val.json").write_text(json.dumps(items))
    for name, walks in WALKS.items():
        records = [{"instr_id": one, "trajectory": list(walk)} for one, walk in walks.items()]
        (tmp_path / f"{name}.json").write_text(json.dumps(records))
    return tmp_path


def run(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code, capsys.readouterr()


def test_the_difference_of_two_agents_is_printed_and_written(world, capsys):
    words = ["compare", world / "good.json", world / "bad.json", "--split", "val"]
    words += ["--data-dir", world, "--samples", "500", "--output", world / "out" / "c.json"]
    code, printed = run(words, capsys)
    assert code == 0, printed.err
    assert "r2r val: 3 episodes, 500 samples by path" in printed.out
    record = json.loads((world / "out" / "c.json").read_text())
    success = record["scores"]["success_rate"]
    assert (success["a"], success["b"]) == (1, pytest.approx(1 / 3))
    assert success["difference"] == pytest.approx(2 / 3)
    assert success["low"] <= 2 / 3 <= success["high"]
    code, printed = run([*words, "--scores", "sdtw", "--unit", "scan"], capsys)
    assert "sdtw" in printed.out
    assert "spl" not in printed.out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--scores", "beauty"], "--scores beauty: choose of nav_error"),
        (["--samples", "9"], "--samples must be at least 100, got 9"),
        (["--task", "r4r"], "R4R_val.json does not exist; make it with `prevalent prepare r4r`"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_one_sentence(world, capsys, options, sentence):
    words = ["compare", world / "good.json", world / "bad.json", "--split", "val"]
    code, printed = run([*words, "--data-dir", world, *options], capsys)
    assert code == 2
    assert sentence in printed.err


def test_a_file_that_answers_less_is_named(world, capsys):
    records = json.loads((world / "bad.json").read_text())[:2]
    (world / "bad.json").write_text(json.dumps(records))
    words = ["compare", world / "good.json", world / "bad.json", "--split", "val"]
    code, printed = run([*words, "--data-dir", world], capsys)
    assert code == 2
    assert "bad.json: instruction '2_0' of the split 'val' has no result (2 of 3" in printed.err
    code, printed = run([*words, "--data-dir", world, "--allow-missing"], capsys)
    assert "r2r val: 2 episodes" in printed.out


@pytest.mark.parametrize("end", ["csv", "jsonl"])
def test_scores_of_every_instruction_are_a_table(world, capsys, end):
    path = world / f"each.{end}"
    words = ["evaluate", "--results", world / "bad.json", "--split", "val", "--data-dir", world]
    code, _ = run([*words, "--per-instruction", path], capsys)
    assert code == 0
    with path.open() as file:
        rows = list(csv.DictReader(file)) if end == "csv" else [json.loads(r) for r in file]
    assert [row["id"] for row in rows] == ["1_0", "1_1", "2_0"]
    assert [float(row["success_rate"]) for row in rows] == [0, 1, 0]
    assert {row["scan"] for row in rows} == {"house"}
    code, printed = run([*words, "--per-instruction", world / "each.txt"], capsys)
    assert (code, "must end in .csv or .jsonl" in printed.err) == (2, True)


def test_a_leaderboards_file_is_checked_strictly(world, capsys):
    words = ["--split", "val", "--data-dir", world]
    code, printed = run(["submit", "--results", world / "good.json", *words], capsys)
    assert code == 0, printed.err
    path = world / "submit_val.json"
    code, printed = run(["check", path, *words], capsys)
    assert (code, "strict JSON, 3 possible walks that answer all of r2r val" in printed.out) == (
        0,
        True,
    )
    path.write_text(path.read_text().replace("0.0", "NaN", 1))
    code, printed = run(["check", path, *words], capsys)
    assert (code, "NaN is no number of JSON" in printed.err) == (2, True)
    path.write_text('[{"instr_id": "1_0", "trajectory": ["a", "c"]}]')
    code, printed = run(["check", path, *words], capsys)
    assert (code, "submit_val.json: result '1_0' jumps at step 1" in printed.err) == (2, True)


@pytest.mark.parametrize("form", ["viewpoints", "nested"])
def test_other_forms_are_written_on_request(world, capsys, form):
    output = world / f"{form}.jsonl.gz"
    words = ["submit", "--results", world / "good.json", "--split", "val", "--data-dir", world]
    code, printed = run([*words, "--form", form, "--output", output], capsys)
    assert code == 0, printed.err
    scored = ["evaluate", "--results", output, "--split", "val", "--data-dir", world]
    assert "success_rate  1.0000" in run(scored, capsys)[1].out


TASKS = {
    "ndh": (
        "ndh/val.json",
        {
            "inst_idx": 1, "scan": "house", "start_pano": {"heading": 0.5, "pano": "a"},
            "target": "lamp", "dialog_history": [{"role": "oracle", "message": "go on"}],
            "planner_path": list("abc"), "player_path": list("ab"), "end_panos": ["c"],
        },
        {"inst_idx": 1, "trajectory": [["a", 0, 0], ["b", 0, 0]]},
    ),
    "hanna": (
        "hanna/hanna_val.json",
        {
            "path_id": 1, "scan": "house", "heading": 0.5, "paths": [list("abc"), list("ad")],
            "instructions": ["find a lamp"],
        },
        {"scan": "house", "instr_id": "1_0", "agent_pose": [["a", 0, 0]], "agent_nav": []},
    ),
    "reverie": (
        "reverie/REVERIE_val.json",
        {
            "path_id": 1, "id": "1_6", "objId": 6, "scan": "house", "heading": 0.5,
            "path": list("abc"), "instructions": ["bring the lamp"],
        },
        {"instr_id": "1_6_0", "trajectory": [["a"], ["b", "c"]], "predObjId": 6},
    ),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_the_walks_of_any_file_are_drawn(world, capsys, task):
    pytest.importorskip("matplotlib")
    name, item, result = TASKS[task]
    (world / name).parent.mkdir()
    (world / name).write_text(json.dumps([item]))
    box = {"name": "lamp", "visible_pos": [1], "bbox2d": [[0, 0, 5, 5]]}
    (world / name).with_name("BBoxes.json").write_text(json.dumps({"house_c": {"6": box}}))
    (world / "walks.json").write_text(json.dumps([result]))
    words = ["trajectories", "--results", world / "walks.json", "--task", task, "--split", "val"]
    code, printed = run([*words, "--data-dir", world], capsys)
    assert code == 0, printed.err
    page = (world / "trajectories_walks" / "index.html").read_text()
    assert (world / "trajectories_walks" / "0.png").stat().st_size > 1000
    told = {"ndh": "oracle: go on", "hanna": "find a lamp", "reverie": "names object 6"}
    assert told[task] in page


def test_one_source_of_walks_is_asked_for(world, capsys):
    code, printed = run(["trajectories", "--split", "val"], capsys)
    assert (code, "give either --results FILE or --run-dir RUN" in printed.err) == (2, True)
