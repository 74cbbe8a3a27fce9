"""Result files of other code are read, and those of leaderboards written and read back."""

import gzip
import json

import pytest

from prevalent.data.results import (
    Reference,
    check_results,
    open_results,
    read_results,
    score_each,
    score_results,
    write_results,
    write_submission,
)
from tests.corpora import shares
from tests.factories import make_graphs

GRAPHS = make_graphs()  # a square a - b - c - d
WALK = ["a", "b", "c"]


def reference(name="1_0", **item):
    return Reference(name, "house", "a", {"path": WALK, **item})


def written(path, content):
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


STEPS = [["a", 0.0, 0.0], ["b", 0.5, 0.0], ["b", 1.0, 0.0], ["c", 1.0, 0.0]]
FORMS = {
    "viewpoints": [{"instr_id": "1_0", "trajectory": WALK}],
    "nested": [{"instr_id": "1_0", "trajectory": [["a"], ["b", "c"], []]}],
    "nested with a way back": [{"instr_id": "1_0", "trajectory": [["a"], ["b", "a"], ["b", "c"]]}],
    "by id": {"1_0": WALK},
    "records by id": {"1_0": {"instr_id": "1_0", "trajectory": STEPS}},
    "named path": [{"instr_id": "1_0", "path": WALK}],
    "walk in a record": [{"instr_id": "1_0", "trajectory": {"path": [["a"], ["b"], ["c"]]}}],
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("end", ["json", "json.gz"])
def test_a_walk_is_read_in_every_form(tmp_path, name, end):
    path = written(tmp_path / f"results.{end}", FORMS[name])
    results = read_results(path, "r2r")
    assert results["1_0"].viewpoints[-1] == "c"
    check_results(results, [reference()], GRAPHS)
    assert score_results(results, [reference()], GRAPHS)["success_rate"] == 1


@pytest.mark.parametrize("end", ["jsonl", "jsonl.gz"])
def test_json_lines_are_read_and_named(tmp_path, end):
    lines = [json.dumps({"instr_id": f"1_{i}", "trajectory": WALK}) for i in range(2)]
    path = written(tmp_path / f"results.{end}", "\n".join([*lines, ""]))
    assert list(read_results(path, "r2r")) == ["1_0", "1_1"]
    for bad, sentence in (
        (lines[0], "line 4: instruction '1_0' occurs twice"),
        ("{", "line 4 is not valid JSON"),
        ("[]", "line 4 must hold a record"),
        ('{"trajectory": []}', "line 4 has no 'instr_id'"),
        ('{"instr_id": "2", "trajectory": ["a", 1]}', "line 4: step 1 .* must be a viewpoint, as"),
    ):
        written(path, "\n".join([*lines, "", bad]))
        with pytest.raises(ValueError, match=rf"results\.{end} {sentence}"):
            read_results(path, "r2r")


def test_one_walk_has_one_form(tmp_path):
    path = written(tmp_path / "r.json", [{"instr_id": "1", "trajectory": [["a"], ["b", 0, 0]]}])
    with pytest.raises(ValueError, match=r"record 0: step 1 .* must be a list of viewpoints"):
        read_results(path, "r2r")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[{"instr_id": "1_0", "trajectory": ["a"], "score": NaN}]', "NaN is no number of JSON"),
        ('[{"instr_id": "1_0", "trajectory": ["a"], "x": -Infinity}]', "-Infinity is no number"),
        ('[{"instr_id": "1", "instr_id": "2", "trajectory": ["a"]}]', "'instr_id' stands twice"),
        ('[{"instr_id": "1_0", "trajectory": ["a"]},]', "is not valid JSON"),
    ],
)
def test_a_leaderboards_file_is_strict_json(tmp_path, text, sentence):
    path = written(tmp_path / "submit.json", text)
    with pytest.raises(ValueError, match=sentence):
        read_results(path, "r2r", strict=True)


def test_rxrs_results_answer_by_instruction(tmp_path):
    known = [Reference("26", "house", "a", {"path": WALK, "language": "hi-IN"})]
    other = written(tmp_path / "a.json", [{"instr_id": "11_26", "trajectory": STEPS}])
    own = written(tmp_path / "b.jsonl", json.dumps({"instruction_id": 26, "path": WALK}))
    for path in (other, own):
        results = open_results(path, known, "rxr")
        assert list(results) == ["26"]
        check_results(results, known, GRAPHS)
    write_submission(tmp_path / "submit.jsonl", results, "rxr-hi")
    (line,) = (tmp_path / "submit.jsonl").read_text().splitlines()
    assert json.loads(line) == {"instruction_id": 26, "path": WALK}
    written(other, [{"instr_id": f"{i}_26", "trajectory": STEPS} for i in range(2)])
    with pytest.raises(ValueError, match="instruction '26' has several results"):
        open_results(other, known, "rxr")


@pytest.mark.parametrize("named", ["predObjId", "pred_objid"])
def test_reveries_object_is_read_scored_and_written(tmp_path, named):
    known = [reference(object="66", goals=("c",)), reference("1_1", object="7", goals=("d",))]
    records = [
        {"instr_id": "1_0", "trajectory": STEPS, named: 66},
        {"instr_id": "1_1", "trajectory": ["a", "b"], named: None},
    ]
    results = open_results(written(tmp_path / "r.json", records), known, "reverie")
    each = score_each(results, known, GRAPHS, "reverie")
    assert [each[name]["rgs"] for name in ("1_0", "1_1")] == [1, 0]
    scores = score_results(results, known, GRAPHS, "reverie")
    assert (scores["success_rate"], scores["rgs"], scores["rgspl"]) == (0.5, 0.5, 0.5)
    for write in (write_submission, write_results):
        write(tmp_path / "out.json", results, "reverie")
        again = open_results(tmp_path / "out.json", known, "reverie", strict=True)
        assert again["1_0"].object == "66"
        assert score_results(again, known, GRAPHS, "reverie") == scores
    assert json.loads((tmp_path / "out.json").read_text())[0]["predObjId"] == 66


def soon_reference(name, start, source):
    corners = [[0.9, 0.1], [1.1, 0.1], [1.1, -0.1], [0.9, -0.1]]
    path = ["a", "b", "c"] if start == "a" else ["b", "c"]
    item = {"path": path, "targets": {"c": corners}, "source": source}
    return Reference(name, "house", start, item)


def test_soons_walks_of_an_item_are_told_apart_by_their_starts(tmp_path):
    known = [soon_reference("0-0_0", "a", "lamp"), soon_reference("0-1_0", "b", "lamp")]
    heading, elevation = shares(1.0, 0.0)
    pointed = {"obj_heading": [heading], "obj_elevation": [elevation]}
    official = [
        {
            "instr_id": "lamp",
            "trajectory": [{"path": STEPS, **pointed}, {"path": [["b", 0, 0]], **pointed}],
        }
    ]
    results = open_results(written(tmp_path / "r.json", official), known, "soon")
    assert set(results) == {"0-0_0", "0-1_0"}
    each = score_each(results, known, GRAPHS, "soon")
    assert [each[one.id]["found_rate"] for one in known] == [1, 0]
    assert [each[one.id]["success_rate"] for one in known] == [1, 1]  # b is 2.06 m from c
    write_submission(tmp_path / "submit.json", results, "soon", references=known)
    (record,) = json.loads((tmp_path / "submit.json").read_text())
    assert (record["instr_id"], len(record["trajectory"])) == ("lamp", 2)
    assert open_results(tmp_path / "submit.json", known, "soon", strict=True) == results


def test_soons_results_of_duet_are_read(tmp_path):
    known = [soon_reference("0-0_0", "a", "lamp")]
    heading, elevation = shares(1.0, 0.0)
    record = {
        "instr_id": "0-0_0",
        "trajectory": {
            "path": [["a"], ["b", "c"]],
            "obj_heading": [heading],
            "obj_elevation": [elevation],
        },
    }
    results = open_results(written(tmp_path / "r.json", [record]), known, "soon")
    assert score_results(results, known, GRAPHS, "soon")["found_spl"] == 1
    record["trajectory"]["obj_heading"] = ["east"]
    with pytest.raises(ValueError, match="record 0: 'obj_heading' must be a finite number"):
        open_results(written(tmp_path / "r.json", [record]), known, "soon")


@pytest.mark.parametrize("form", ["steps", "viewpoints", "nested"])
@pytest.mark.parametrize("end", ["json", "jsonl", "json.gz"])
def test_every_form_is_written_and_read_back(tmp_path, form, end):
    results = read_results(
        written(tmp_path / "r.json", [{"instr_id": "1_0", "trajectory": STEPS}]), "r2r"
    )
    path = tmp_path / f"out.{end}"
    write_submission(path, results, "r2r", form=form)
    again = read_results(path, "r2r", strict=True)["1_0"]
    assert again.viewpoints == (["a", "b", "b", "c"] if form == "steps" else WALK)
    if end == "json":
        (record,) = json.loads(path.read_text())
        expected = {"steps": STEPS, "viewpoints": WALK, "nested": [["a"], ["b"], ["c"]]}
        assert record["trajectory"] == expected[form]
