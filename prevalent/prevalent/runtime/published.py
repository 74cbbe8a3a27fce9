"""Published figures and our own results: both are TOML tables of rows, read alike.

A table lists its data sets in ``data``; a row holds ``DATA = { METRIC = CELL, ... }`` for those it
has, and a cell is a number or ``{ value = 7.06, spread = 0.80, ... }``. What a row or a cell does
not say (source, protocol, unit, ...) its table says.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple

Key = tuple[str, str, str, str]  # table, row, data, metric


@dataclass(frozen=True)
class Figure:
    """One published number, with as many decimals as were printed.

    ``confidence``: ``high`` was read in the source, ``medium`` in somebody's copy or computed from
    what was read, ``low`` is a recollection, whose ``note`` says what speaks for it.
    """

    table: str
    row: str
    data: str
    metric: str
    value: Decimal
    source: str
    confidence: Literal["high", "medium", "low"]
    unit: str = ""
    spread: Decimal | None = None
    at_least: bool = False
    protocol: str = ""
    note: str = ""
    script: str = ""

    @property
    def key(self) -> Key:
        """What names the figure."""
        return self.table, self.row, self.data, self.metric

    def __str__(self) -> str:
        return ("≥ " if self.at_least else "") + number(self.value, self.unit, self.spread)


@dataclass(frozen=True)
class Table:
    """A table of a paper, in its order, and what our figures for it would need."""

    label: str
    title: str
    paper: str
    needs: str
    """Data and weights that were not at hand."""
    hours: str
    """Of a GPU, for all rows that are ours to run."""
    command: str
    data: tuple[str, ...]
    """Its data sets, in its order."""
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Result:
    """One number of ours. ``differs``: why its protocol is not the published one, or empty."""

    row: str
    data: str
    metric: str
    value: Decimal
    unit: str = ""
    spread: Decimal | None = None
    least: Decimal | None = None
    greatest: Decimal | None = None
    table: str = ""
    """The table with which it is compared; empty: with none."""
    published: str = ""
    """The row of that table."""
    differs: str = ""
    evidence: str = ""
    """Identifier of its record, or the file below runs/ that it comes from."""
    trial: bool = False
    """On fewer items than the protocol has."""

    @property
    def key(self) -> Key:
        """The published figure that it stands beside."""
        return self.table, self.published, self.data, self.metric

    def __str__(self) -> str:
        ends = "" if self.least is None else f" [{self.least}, {self.greatest}]"
        return (
            number(self.value, self.unit, self.spread) + ends + (" (trial)" if self.trial else "")
        )


@dataclass(frozen=True)
class Record:
    """Where results of ours come from: all that is needed to run them again, or to doubt them."""

    id: str
    title: str
    command: str
    commit: str
    date: str
    seeds: str
    machine: str
    checksum: str
    """Of the data, and which files they are."""
    protocol: str
    """Samples, split, features, decoding."""
    preset: str = ""
    table: str = ""
    """The published table with which the rows may be compared."""
    differs: str = ""
    """Why they may not."""
    note: str = ""
    results: tuple[Result, ...] = field(default=(), repr=False)


class _Cell(NamedTuple):
    row: Mapping[str, Any]
    data: str
    metric: str
    content: Mapping[str, Any]


def find_folder(name: str) -> Path:
    """``published`` or ``evidence`` of the source tree, or of an installation: share/PACKAGE/name.

    Raises:
        FileNotFoundError: there is neither.
    """
    package = Path(__file__).resolve().parents[1]
    tree = package.parent
    places = [tree / name] if (tree / "pyproject.toml").exists() else []
    places += [parent / "share" / package.name / name for parent in package.parents]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"there is no folder {name}; give it as --{name}")


def read_published(folder: str | Path) -> list[Figure]:
    """The figures of all tables of `read_tables`."""
    return [figure for table in read_tables(folder) for figure in table.figures]


def read_tables(folder: str | Path) -> list[Table]:
    """All ``[[table]]`` entries of ``folder/*.toml``: numbered ones first, others in file order.

    Raises:
        ValueError: an entry is incomplete, has an unknown key, or a label occurs twice.
    """
    tables = []
    for path, content in _contents(folder, ("paper", "table")):
        for entry in content["table"]:
            tables.append(_table(path, str(content.get("paper", "")), entry))
    labels = [table.label for table in tables]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"{folder}: two tables are called {label!r}")
    numbers = {label: re.match(r"Tables? (\d+)", label) for label in labels}
    return sorted(
        tables, key=lambda table: int(found[1]) if (found := numbers[table.label]) else 99
    )


def _table(path: Path, paper: str, entry: Mapping[str, Any]) -> Table:
    own = ("source", "confidence", "protocol", "note", "script")
    known = (
        "label",
        "title",
        "needs",
        "hours",
        "command",
        "data",
        "units",
        "script_data",
        *own,
        "row",
    )
    where = f"{path}: table {entry.get('label', '?')!r}"
    _refuse_unknown(entry, known, where)
    places, figures = entry.get("script_data", {}), []
    for cell in _cells(entry, ("name", *own), where):
        words = {"spread", "at_least", *own}
        _refuse_unknown(cell.content, {"value", *words}, f"{where}, {cell.row['name']}")
        said = {**entry, **cell.row, **cell.content}
        place = places.get(cell.data, cell.data)
        script = said.get("script", "").format(data=place, metric=cell.metric.lower())
        told = {key: said[key] for key in words if key in said and key != "script"}
        try:
            figures.append(
                Figure(
                    table=entry["label"],
                    row=cell.row["name"],
                    data=cell.data,
                    metric=cell.metric,
                    value=Decimal(cell.content["value"]),
                    unit=entry.get("units", {}).get(cell.metric, ""),
                    script=script if place else "",
                    **told,
                )
            )
        except (TypeError, KeyError) as error:
            raise ValueError(f"{where}, row {cell.row['name']!r} is incomplete ({error})") from None
    head = {key: entry.get(key, "") for key in ("label", "title", "needs", "hours", "command")}
    return Table(paper=paper, data=tuple(entry["data"]), figures=tuple(figures), **head)


def read_evidence(folder: str | Path) -> list[Record]:
    """All ``[[record]]`` entries of ``folder/*.toml``, in file order.

    Raises:
        ValueError: an entry is incomplete, has an unknown key, does not say with which table it
            compares or why with none, or an identifier occurs twice.
    """
    records: list[Record] = []
    words = [one.name for one in fields(Record) if one.name != "results"]
    for path, content in _contents(folder, ("record",)):
        for entry in content["record"]:
            where = f"{path}: record {entry.get('id', '?')!r}"
            _refuse_unknown(entry, (*words, "data", "units", "row"), where)
            said = {key: str(entry[key]) for key in words if key in entry}
            if not said.get("table") and not said.get("differs"):
                raise ValueError(
                    f"{where} needs the table it compares with, or `differs`: why none"
                )
            results = tuple(
                _result(cell, entry, where)
                for cell in _cells(entry, ("name", "published", "differs"), where)
            )
            try:
                records.append(Record(**said, results=results))
            except TypeError as error:
                raise ValueError(f"{where} is incomplete ({error})") from None
            if said["id"] in (record.id for record in records[:-1]):
                raise ValueError(f"{where} occurs twice")
    return records


def _result(cell: _Cell, entry: Mapping[str, Any], where: str) -> Result:
    words = ("value", "spread", "least", "greatest")
    _refuse_unknown(cell.content, (*words, "each"), f"{where}, {cell.row['name']}")
    published = cell.row.get("published", "")
    numbers = {key: Decimal(cell.content[key]) for key in words if key in cell.content}
    return Result(
        row=cell.row["name"],
        data=cell.data,
        metric=cell.metric,
        unit=entry.get("units", {}).get(cell.metric, ""),
        table=entry.get("table", "") if published else "",
        published=published,
        differs=cell.row.get("differs", entry.get("differs", "")),
        evidence=entry["id"],
        value=numbers["value"],
        spread=numbers.get("spread"),
        least=numbers.get("least"),
        greatest=numbers.get("greatest"),
    )


def _contents(folder: str | Path, known: Sequence[str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(Path(folder).glob("*.toml")):
        try:
            content = tomllib.loads(path.read_text(), parse_float=Decimal)
        except ValueError as error:
            raise ValueError(f"{path} is no TOML ({error})") from None
        _refuse_unknown(content, known, str(path))
        yield path, {known[-1]: [], **content}


def _cells(entry: Mapping[str, Any], words: Sequence[str], where: str) -> Iterator[_Cell]:
    data = entry.get("data", [])
    for row in entry.get("row", []):
        if "name" not in row:
            raise ValueError(f"{where}: a row has no name")
        _refuse_unknown(row, (*words, *data), f"{where}, row {row['name']!r}")
        said = {key: value for key, value in row.items() if key in words}
        for name in data:
            for metric, content in row.get(name, {}).items():
                cell = content if isinstance(content, dict) else {"value": content}
                yield _Cell(said, name, metric, cell)


def _refuse_unknown(entry: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    if unknown := sorted(set(entry) - set(known)):
        raise ValueError(f"{where} has unknown keys {unknown}")


def number(value: Decimal, unit: str = "", spread: Decimal | None = None) -> str:
    """``9.60 m``, with ``± 0.14`` where there is a spread."""
    text = f"{value:,}" if "E" not in str(value) else str(value)
    return f"{text}{'' if spread is None else f' ± {spread}'} {unit}".strip()


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; ``|`` in a cell is escaped."""
    lines = [[str(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
