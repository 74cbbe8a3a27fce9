"""Sentences come out of files of every common form, and mistakes are named with their line."""

import gzip
import io
from types import SimpleNamespace

import pytest

from optimus.data.columns import Item, read_items

TEXTS = ["a dog barks", "", "two\u2028lines"]


def read(path, *args, **options):
    return list(read_items(path, *args, **options))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("a.txt", "a dog barks\n\ntwo\u2028lines\n", ""),
        ("a.tsv", "id\ttext\n7\ta dog barks\n8\t\n9\ttwo\u2028lines\n", "text"),
        ("a.tsv", "7\ta dog barks\n8\t\n9\ttwo\u2028lines\n", "2"),
        ("a.txt", "7\ta dog barks\n8\t\n9\ttwo\u2028lines\n", "2"),
        ("a.csv", 'id,text\n7,a dog barks\n8,""\n9,"two\u2028lines"\n', "text"),
        ("a.jsonl", '{"id": 7, "text": "a dog barks"}\n{"id": 8, "text": ""}\n'
         '{"id": 9, "text": "two\\u2028lines"}\n', "text"),
    ],
)  # fmt: skip
def test_every_form_gives_the_same_sentences(tmp_path, name, content, column, packed):
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    assert read(path, column) == [Item(number, text) for number, text in enumerate(TEXTS)]
    if name != "a.txt":
        id_column = "1" if column == "2" else "id"
        assert [item.id for item in read(path, column, id_column)] == [7, 8, 9]


def test_a_cell_in_quotes_may_have_commas_quotes_and_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text,n\n"one, ""two""\nthree",1\nfour,2\n')
    assert [item.text for item in read(path, "text")] == ['one, "two" three', "four"]


@pytest.mark.parametrize("content", ["2\tgood\n1\tbad\n2\t\n", "2,good\n1,bad\n2,\n"])
def test_a_number_is_a_place_where_a_label_is_the_same_number(tmp_path, content):
    path = tmp_path / ("a.tsv" if "\t" in content else "a.csv")
    path.write_text(content)
    assert [item.text for item in read(path, "2")] == ["good", "bad", ""]
    assert [item.id for item in read(path, "2", "1")] == [2, 1, 2]


def test_numbers_may_be_names(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("0,1\n7,a\n8,b\n")
    assert read(path, "1", "0") == [Item(7, "a"), Item(8, "b")]
    path.write_text("id,2020\n7,a\n8,b\n")
    assert [item.text for item in read(path, "2020")] == ["a", "b"]


def test_a_record_of_empty_cells_keeps_its_number(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('text\na\n""\n\nb\n')
    assert read(path) == [Item(0, "a"), Item(1, ""), Item(2, "b")]
    path = tmp_path / "a.tsv"
    path.write_text("x\ty\n1\ta\n\t\n3\tb\n")
    assert read(path, "y") == [Item(0, "a"), Item(1, ""), Item(2, "b")]


def test_one_column_needs_no_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text\na\nb\n")
    assert [item.text for item in read(path)] == ["a", "b"]
    path = tmp_path / "a.jsonl"
    path.write_text('{"sentence": "a"}\n')
    assert [item.text for item in read(path)] == ["a"]


def test_standard_input_is_read(monkeypatch):
    stream = SimpleNamespace(buffer=io.BytesIO(b'{"text": "a"}\n'))
    monkeypatch.setattr("sys.stdin", stream)
    assert read("-", "text", format="jsonl") == [Item(0, "a")]


@pytest.mark.parametrize(
    ("name", "content", "columns", "message"),
    [
        ("a.txt", "a\tb", ("", "1"), "line 1: name one of the columns a, b with --column"),
        ("a.tsv", "x\ty\n1\t2\n", ("z",), "line 1: there is no column 'z', the columns are x, y"),
        ("a.tsv", "x\ty\n1\t2\n", ("",), "line 1: name one of the columns x, y with --column"),
        ("a.tsv", "x\ty\n1\n", ("y",), "line 2: there is no column 2: the row has 1"),
        ("a.tsv", "x\ty\n1\tb\n", ("3",), "line 1: there is no column 3"),
        ("a.tsv", "x\ty\n1\tb\n", ("0", "2"), "no column 0: the row has 2, numbered from 1"),
        ("a.csv", "x,x\n1,2\n", ("x",), "line 1: two columns are called 'x'; rename one"),
        ("a.tsv", "x\ty\nq\tb\n", ("y", "x"), "line 2: 'x' must be a whole number of .*, got 'q'"),
        ("a.csv", 'x,y\n1,"b"c\n', ("y",), "line 2: it is no CSV"),
        ("a.jsonl", "{}\n{", ("y",), "line 1: there is no 'y'"),
        ("a.jsonl", "{", ("y",), r"line 1: it is no record of JSON \(wrong from column 2 on\)"),
        ("a.jsonl", "[" * 99999, ("y",), "too many brackets"),
        ("a.tsv", "x\ty\n" + "9" * 20 + "\tb", ("y", "x"), "line 2: 'x' must be .* 18 digits"),
        ("a.tsv", "x\ty\n1_0\tb", ("y", "x"), "line 2: 'x' must be a whole number"),
        ("a.jsonl", "[1]", ("y",), "line 1: it is a list and no JSON object"),
        ("a.jsonl", '{"y": 3}', ("y",), "line 1: 'y' is no text but 3"),
        ("a.jsonl", '{"x": "a", "y": "b"}', ("",), "line 1: there is no '', name one of x, y"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, name, content, columns, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read(path, *columns)


def test_a_text_file_has_no_columns(tmp_path):
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(ValueError, match="--column text: a text file has none"):
        read(tmp_path / "a.txt", "text", format="text")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read(tmp_path / "none.txt")
