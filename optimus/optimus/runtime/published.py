"""Figures of the papers, one a TOML entry, and tables that put ours beside them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """One published number.

    ``confidence``: ``verified`` was read in a source, ``medium`` and ``low`` are recollections to
    be checked against the paper.
    """

    table: str
    row: str
    dataset: str
    metric: str
    value: float
    source: str
    confidence: Literal["verified", "medium", "low"]
    unit: str = ""
    protocol: str = ""
    script: str = ""


def read_published(folder: str | Path) -> list[Figure]:
    """All ``[[figure]]`` entries of ``folder/*.toml`` in file order."""
    known = {field.name for field in fields(Figure)}
    figures = []
    for path in sorted(Path(folder).glob("*.toml")):
        content = tomllib.loads(path.read_text())
        shared = {key: value for key, value in content.items() if key in known}
        for number, entry in enumerate(content.get("figure", []), start=1):
            unknown = set(entry) - known
            if unknown:
                raise ValueError(f"{path}: figure {number} has unknown keys {sorted(unknown)}")
            try:
                figures.append(Figure(**{**shared, **entry}))
            except TypeError as error:
                raise ValueError(f"{path}: figure {number} is incomplete ({error})") from None
    return figures


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; ``|`` in a cell is escaped."""
    lines = [[str(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
