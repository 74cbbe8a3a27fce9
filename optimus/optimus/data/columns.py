"""Sentences of a file of any common form, one after the other: text, TSV, CSV, JSONL, each as .gz.

Nothing is kept in memory but the present record.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ..runtime.files import why
from ..runtime.text_files import Line, decode_lines, read_lines

Format = Literal["auto", "text", "tsv", "csv", "jsonl"]
STANDARD_INPUT = Path("-")
_FORMATS: dict[str, Format] = {".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


class Item(NamedTuple):
    """A sentence of a file; a blank one is empty."""

    id: int
    """The number of its record from 0, headers not counted, or what the column of ids says."""
    text: str


def read_items(
    path: str | Path, column: str = "", id_column: str = "", format: Format = "auto"
) -> Iterator[Item]:
    """The sentences of ``path``, in their order.

    Args:
        path: a file, or ``-`` for standard input.
        column: of the sentence: a name that stands in the first line of a TSV or CSV file or is a
            key of the JSON objects, or a number from 1 for a file without such a line. A file with
            one column needs none.
        id_column: likewise, of a whole number.
        format: by default what the file's name says; other names are text, a sentence a line, or,
            where ``column`` is given, TSV.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no such column, or a record is not of the format.
    """
    path = Path(path)
    lines = (
        decode_lines(sys.stdin.buffer, "standard input")
        if path == STANDARD_INPUT
        else read_lines(path)
    )
    form = format if format != "auto" else _format_of(path, column or id_column)
    if form == "text":
        if column or id_column:
            raise ValueError(f"--column {column or id_column}: a text file has none; see --format")
        yield from (Item(line.number - 1, line.text.strip()) for line in lines)
        return
    wanted = [column, *([id_column] if id_column else [])]
    records = _objects(lines, wanted) if form == "jsonl" else _cells(lines, wanted, form)
    for number, (line, values) in enumerate(records):
        text = " ".join(values[0].split("\n")).strip()
        yield Item(_whole(values[1], line, id_column) if id_column else number, text)


def _format_of(path: Path, column: str) -> Format:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return _FORMATS.get(suffixes[-1] if suffixes else "", "tsv" if column else "text")


def _cells(
    lines: Iterator[Line], wanted: Sequence[str], form: Format
) -> Iterator[tuple[Line, list[str]]]:
    """The ``wanted`` cells of every row; empty lines of the file are no rows."""
    if form == "csv":
        rows = _split_csv(lines)
    else:
        rows = ((line, line.text.split("\t")) for line in lines if line.text)
    places: list[int] = []
    for line, row in rows:
        if not places:
            numbered = _are_places(wanted, row)
            places = [int(name) - 1 for name in wanted] if numbered else _find(line, row, wanted)
            if not numbered:
                continue
        if len(row) <= max(places) or min(places) < 0:
            wrong = (max(places) if min(places) >= 0 else min(places)) + 1
            raise line.complaint(
                f"there is no column {wrong}: the row has {len(row)}, numbered from 1"
            )
        yield line, [row[place] for place in places]


def _are_places(wanted: Sequence[str], row: Sequence[str]) -> bool:
    """Whether ``wanted`` are numbers of columns, and not names in the first ``row``.

    They are names where the row has them but no such place, and where it is 0, 1, 2 ..., as pandas
    calls columns without names. Any other cell may well be a number, such as a label.
    """
    if not all(map(str.isdecimal, wanted)) or row == [str(place) for place in range(len(row))]:
        return False
    return not any(name in row and int(name) > len(row) for name in wanted)


def _find(line: Line, header: Sequence[str], wanted: Sequence[str]) -> list[int]:
    if wanted == [""] and len(header) == 1:
        return [0]
    for name in wanted:
        if name not in header:
            columns = ", ".join(header)
            raise line.complaint(
                f"there is no column {name!r}, the columns are {columns}; name one with --column, "
                "or give its number from 1 where the file has no names"
                if name
                else f"name one of the columns {columns} with --column"
            )
        if header.count(name) > 1:
            raise line.complaint(f"two columns are called {name!r}; rename one of them")
    return [header.index(name) for name in wanted]


def _split_csv(lines: Iterator[Line]) -> Iterator[tuple[Line, list[str]]]:
    """Rows of a CSV file; a cell in quotes may go over several lines."""
    last: list[Line] = []

    def feed() -> Iterator[str]:
        for line in lines:
            last[:] = [line]
            yield f"{line.text}\n"

    reader = csv.reader(feed(), strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise last[0].complaint(f"it is no CSV ({why(error)})") from error
        if row:
            yield last[0], row


def _objects(lines: Iterator[Line], wanted: Sequence[str]) -> Iterator[tuple[Line, list[str]]]:
    for line in lines:
        if not line.text.strip():
            continue
        try:
            record = json.loads(line.text)
        except (ValueError, RecursionError) as error:
            raise line.complaint(f"it is no record of JSON ({_place(error)})") from error
        if not isinstance(record, dict):
            raise line.complaint(f"it is a {type(record).__name__} and no JSON object")
        names = [name or (next(iter(record)) if len(record) == 1 else "") for name in wanted]
        for name in names:
            if name not in record:
                keys = ", ".join(record)
                raise line.complaint(f"there is no {name!r}, name one of {keys} with --column")
        if not isinstance(record[names[0]], str):
            raise line.complaint(f"{names[0]!r} is no text but {record[names[0]]!r}")
        yield line, [str(record[name]) for name in names]


def _place(error: Exception) -> str:
    """Of a line that is no JSON; the number of the line is told already."""
    if isinstance(error, json.JSONDecodeError):
        return f"wrong from column {error.colno} on"
    return why(error)


def _whole(value: str, line: Line, column: str) -> int:
    if not re.fullmatch(r"\s*[-+]?[0-9]{1,18}\s*", value):  # of 64 bits
        raise line.complaint(
            f"{column!r} must be a whole number of at most 18 digits, got {value!r}"
        )
    return int(value)
