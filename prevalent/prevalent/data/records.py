"""Records of JSON files, checked field by field, so that a bad one is named by file and place."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..runtime.text_files import read_lines

NAME, NUMBER = int | str, int | float
LARGEST = sys.float_info.max
TOLD = {
    int: "whole number",
    str: "text",
    NAME: "number or text",
    NUMBER: "finite number",
    dict: "record",
    list: "list",
}


def read_json(path: Path, cure: str, *, strict: bool = False) -> Any:
    """The content of a JSON file in UTF-8; a name that ends in .gz is unpacked.

    Args:
        path: the file.
        cure: where a missing or damaged one is had.
        strict: refuse what JSON does not have: NaN, infinity, a key twice in one record.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    _require_file(path, cure)
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is no whole gzip file ({error}); {cure}") from None
    try:
        return _decoder(strict)(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({_why(error)}); {cure}") from None


def _why(error: Exception) -> str:
    """What is wrong with a text of JSON, in words for people."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is no UTF-8 text from byte {error.start} on"
    if isinstance(error, json.JSONDecodeError):
        if not error.doc.strip():
            return "it is empty"
        if error.pos >= len(error.doc.rstrip()):
            return f"it ends too early, in line {error.lineno}"
        return f"wrong from line {error.lineno}, column {error.colno} on"
    return "too many brackets in each other" if isinstance(error, RecursionError) else str(error)


class Record(dict[str, Any]):
    """A record of a file, which knows its place there also where it is one of a few picked ones."""

    where: str


def read_json_list(path: Path, cure: str) -> list[dict[str, Any]]:
    """A list of records, or JSON lines (see `is_lines`); raises as `read_json` does.

    `place_of` tells where each one stands.
    """
    if is_lines(path):
        return [_placed(record, where) for where, record in read_json_lines(path, cure)]
    content = read_json(path, cure)
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise ValueError(f"{path} must hold a list of records; {cure}")
    return [_placed(record, f"{path}: item {number}") for number, record in enumerate(content)]


def _placed(record: dict[str, Any], where: str) -> Record:
    placed = Record(record)
    placed.where = where
    return placed


def place_of(record: Mapping[str, Any], origin: str | Path, number: int) -> str:
    """File and place of a record of `read_json_list`; of another one ``number`` in ``origin``."""
    return record.where if isinstance(record, Record) else f"{origin}: item {number}"


def is_lines(path: Path) -> bool:
    """Whether the name says that every line is a record: ``.jsonl`` or ``.jsonl.gz``."""
    return path.name.removesuffix(".gz").endswith(".jsonl")


def read_json_lines(
    path: Path, cure: str, *, strict: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place in the file, for complaints, and record of every line that is not blank.

    The file is read line by line, so that it may be large. Raises as `read_json` does.
    """
    _require_file(path, cure)
    decode = _decoder(strict)
    try:
        for line in read_lines(path):
            if not line.text.strip():
                continue
            where = f"{path} line {line.number}"
            try:
                record = decode(line.text)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where} is not valid JSON ({_why(error)}); {cure}") from None
            if not isinstance(record, dict):
                raise ValueError(f"{where} must hold a record; {cure}")
            yield where, record
    except zlib.error as error:
        raise ValueError(f"{path} is no whole gzip file ({error}); {cure}") from None


def _require_file(path: Path, cure: str) -> None:
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}; {cure}")


def _decoder(strict: bool) -> Callable[[str], Any]:
    if not strict:
        return json.loads
    decoder = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_keys_once)
    return decoder.decode


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one record")
    return record


def check_record(record: Mapping[str, Any], fields: Mapping[str, Any], origin: str | Path) -> None:
    """Raise ``ValueError`` that begins with ``origin`` and names the first unusable field.

    Args:
        record: of a JSON file.
        fields: what each field must be: a type, or a list of one for lists.
        origin: file and place of the record.
    """
    for name, kind in fields.items():
        if name not in record:
            raise ValueError(f"{origin} has no {name!r}")
        if not _fits(record[name], kind):
            found = repr(record[name])
            shown = found if len(found) <= 40 else f"{found[:40]}..."
            raise ValueError(f"{origin}: {name!r} must be a {_told(kind)}, not {shown}")


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, list):
        return isinstance(value, list) and all(_fits(one, kind[0]) for one in value)
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    return abs(value) <= LARGEST if isinstance(value, int | float) else True  # NaN is not


def _told(kind: Any, end: str = "") -> str:
    if isinstance(kind, list):
        return f"list{end} of {_told(kind[0], 's')}"
    return TOLD[kind] + end
