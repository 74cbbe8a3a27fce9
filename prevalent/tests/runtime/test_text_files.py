"""Lines are cut where training cuts them, and every complaint has a file and a line."""

import gzip
import io

import pytest

from prevalent.runtime.text_files import Line, decode_lines, read_lines, read_number, read_texts


def test_only_line_feeds_end_a_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("one\u2028still\nt\u0085w\x0bo\x0c\r\n\nlone\rreturn".encode())
    assert read_texts(path) == ["one\u2028still", "t\u0085w\x0bo\x0c", "", "lone\rreturn"]
    assert [line.number for line in read_lines(path)] == [1, 2, 3, 4]


def test_a_byte_order_mark_is_dropped_at_the_start_only(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\n\ufefftwo\n".encode())
    assert read_texts(path) == ["one", "\ufefftwo"]


def test_a_packed_file_is_read_alike(tmp_path):
    with gzip.open(tmp_path / "a.txt.gz", "wb") as file:
        file.write(b"one\ntwo\n")
    assert read_texts(tmp_path / "a.txt.gz") == ["one", "two"]
    whole = (tmp_path / "a.txt.gz").read_bytes()
    for content in (whole[:-9], b"no archive"):
        (tmp_path / "a.txt.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.txt\.gz is no whole gzip file"):
            read_texts(tmp_path / "a.txt.gz")


@pytest.mark.parametrize("damage", ["cut", "changed", "none"])
def test_a_damaged_archive_is_named(tmp_path, damage):
    packed = gzip.compress(b"one\ntwo\n" * 200)
    changed = packed[:20] + b"\xff" * 4 + packed[24:]
    content = {"cut": packed[:-20], "changed": changed, "none": b"one\n"}[damage]
    (tmp_path / "a.txt.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.txt\.gz is no whole gzip file"):
        list(read_lines(tmp_path / "a.txt.gz"))


def test_an_open_stream_is_cut_alike_and_has_a_name():
    rows = io.BytesIO("one\u2028still\r\n\ntwo".encode())
    assert [line.text for line in decode_lines(rows, "standard input")] == [
        "one\u2028still",
        "",
        "two",
    ]
    with pytest.raises(ValueError, match=r"^standard input line 1 is no UTF-8 text"):
        next(decode_lines([b"caf\xe9\n"], "standard input"))


def test_utf_16_is_called_by_its_name(tmp_path):
    (tmp_path / "a.txt").write_text("a dog .", encoding="utf-16")
    with pytest.raises(ValueError, match=r"a\.txt is UTF-16 text; convert it with"):
        read_texts(tmp_path / "a.txt")


def test_a_line_of_another_encoding_is_named_with_its_cure(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("fine\ncaf\u00e9\n".encode("latin1"))
    with pytest.raises(ValueError, match=r"a\.txt line 2 is no UTF-8 text \(byte 0xe9 .*iconv"):
        read_texts(path)


@pytest.mark.parametrize(("name", "problem"), [("", "is a folder"), ("x", "does not exist")])
def test_what_is_no_file_is_named(tmp_path, name, problem):
    with pytest.raises(FileNotFoundError, match=problem):
        read_texts(tmp_path / name)


def test_numbers_are_numbers(tmp_path):
    line = Line("0.5\tnan", 7, tmp_path / "a.tsv")
    assert read_number("0.5", line) == 0.5
    assert read_number("inf", line, finite=False) == float("inf")
    with pytest.raises(ValueError, match=r"a\.tsv line 7: the score must be finite, got 'nan'"):
        read_number("nan", line, "score")
    with pytest.raises(ValueError, match=r"line 7: the value must be a number, got 'x'"):
        read_number("x", line)
