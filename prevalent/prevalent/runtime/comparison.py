"""Published figures beside ours: what was met, what was run otherwise, and what the rest needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple

from .published import Figure, Key, Record, Result, Table

State = Literal["met", "differs", "run otherwise", "not run"]
STATES: tuple[State, ...] = ("met", "differs", "run otherwise", "not run")


class Line(NamedTuple):
    """A published figure with all of ours that belong to it."""

    figure: Figure
    ours: tuple[Result, ...]
    state: State


class Summary(NamedTuple):
    """How far a table is met; ``counts`` are figures by state."""

    table: Table
    rows: int
    counts: Counter[State]


@dataclass(frozen=True)
class Comparison:
    """All tables of a project with ours beside them, and ours that have no such place."""

    tables: tuple[tuple[Table, tuple[Line, ...]], ...]
    records: tuple[Record, ...]
    elsewhere: tuple[Result, ...]
    """Results that compare with no published figure, or by another protocol."""
    notes: tuple[str, ...] = ()
    """What could not be read, a sentence each."""

    def summaries(self) -> list[Summary]:
        """A line a table."""
        return [
            Summary(
                table,
                len({line.figure.row for line in lines}),
                Counter(line.state for line in lines),
            )
            for table, lines in self.tables
        ]


def compare(
    tables: Sequence[Table],
    records: Sequence[Record],
    runs: Iterable[Result] = (),
    notes: Sequence[str] = (),
) -> Comparison:
    """Put the results of ``records`` and ``runs`` beside the figures of ``tables``.

    Raises:
        ValueError: a result names a published figure that no table has.
    """
    results = [result for record in records for result in record.results] + list(runs)
    ours: dict[Key, list[Result]] = {}
    for result in results:
        if result.published:
            ours.setdefault(result.key, []).append(result)
    figures = {figure.key for table in tables for figure in table.figures}
    rows = {key[:2] for key in figures}
    for key, found in ours.items():
        if key not in figures and not (found[0].differs and key[:2] in rows):
            raise ValueError(f"{found[0].evidence} names a figure that no table has: {key}")
    compared = tuple(
        (table, tuple(_line(figure, ours.get(figure.key, ())) for figure in table.figures))
        for table in tables
    )
    elsewhere = tuple(one for one in results if one.differs or not one.published)
    return Comparison(compared, tuple(records), elsewhere, tuple(notes))


def _line(figure: Figure, ours: Sequence[Result]) -> Line:
    same = [result for result in ours if not result.differs]
    state: State = "run otherwise" if ours else "not run"
    if same:
        state = "met" if any(agrees(figure, result) for result in same) else "differs"
    return Line(figure, tuple(ours), state)


def agrees(figure: Figure, ours: Result) -> bool:
    """Whether ours is the published number, as far as its digits and the spread of both say."""
    if figure.at_least:
        return ours.value >= figure.value
    ends = (ours.least, ours.greatest)
    if ends[0] is not None and ends[1] is not None and ends[0] <= figure.value <= ends[1]:
        return True
    last_digit = Decimal(1).scaleb(int(figure.value.as_tuple().exponent))
    spreads = [spread for spread in (figure.spread, ours.spread) if spread is not None]
    deviation = sum((spread**2 for spread in spreads), Decimal(0)).sqrt()
    return abs(ours.value - figure.value) <= max(last_digit / 2, 2 * deviation)


def difference(line: Line) -> str:
    """Ours less the published figure, of the first result by its protocol; empty without one."""
    for result in line.ours:
        if not result.differs:
            return f"{result.value - line.figure.value:+}"
    return ""
