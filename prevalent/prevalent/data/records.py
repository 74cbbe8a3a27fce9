"""Records of JSON files, checked field by field, so that a bad one is named by file and place."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def read_json(path: Path, cure: str) -> Any:
    """The content of a JSON file in UTF-8; a name that ends in .gz is unpacked.

    Args:
        path: the file.
        cure: where a missing or damaged one is had.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged.
    """
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}; {cure}")
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is no whole gzip file ({error}); {cure}") from None
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); {cure}") from None


def read_json_list(path: Path, cure: str) -> list[dict[str, Any]]:
    """A list of records; raises as `read_json` does."""
    content = read_json(path, cure)
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise ValueError(f"{path} must hold a list of records; {cure}")
    return content


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
