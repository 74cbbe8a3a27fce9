"""The one reader of JSON records and the check of their fields."""

import json

import pytest

from prevalent.data.records import NAME, NUMBER, check_record, read_json, read_json_list

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
