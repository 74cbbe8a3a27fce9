"""Data sets of walks under their names: Room-to-Room and what has its form of a task.

Each is one instruction and one path through a scan, so that the agents of Room-to-Room train on all
of them. A new one is a reader of its own, and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from .instructions import AUGMENTED, Instruction, expand, read_paths, read_split, split_name
from .r4r import read_r4r
from .records import is_lines, read_json_lines
from .reverie import expand_objects, places_of, read_boxes, read_reverie
from .rxr import read_rxr
from .soon import expand_targets, read_soon

WalkData = Literal["r2r", "r4r", "rxr", "rxr-en", "rxr-hi", "rxr-te", "reverie", "soon"]


def _read_r2r(data_dir: str | Path, split: str) -> list[Instruction]:
    return expand(read_paths(data_dir, split), split)


def _read_r4r(data_dir: str | Path, split: str) -> list[Instruction]:
    path, items = read_r4r(data_dir, split)
    return expand(items, path)


READERS: dict[str, Callable[[str | Path, str], list[Instruction]]] = {
    "r2r": _read_r2r,
    "r4r": _read_r4r,
    "rxr": read_rxr,
    "rxr-en": partial(read_rxr, language="en"),
    "rxr-hi": partial(read_rxr, language="hi"),
    "rxr-te": partial(read_rxr, language="te"),
    "reverie": read_reverie,
    "soon": read_soon,
}
"""Name -> reader of one split, in file order."""


def family(data: str) -> str:
    """The data set whose form and scores ``data`` has: that of ``rxr-hi`` is ``rxr``."""
    return data.partition("-")[0]


def read_walks(data_dir: str | Path, data: str, split: str) -> list[Instruction]:
    """The instructions of one split of one data set, in file order.

    Args:
        data_dir: holds ``r2r/``, ``r4r/``, ``rxr/``, ``reverie/`` and ``soon/``.
        data: name of the data set.
        split: one of its splits; an augmented set of Room-to-Room by its name; or a path with a
            slash to a file in the form of any of the data sets. ``@N`` behind takes a random N.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged; names file and record.
    """
    if data not in READERS:
        raise ValueError(f"there is no data set {data!r}; choose one of {', '.join(READERS)}")
    name = split.partition("@")[0]
    if name in AUGMENTED:
        return _read_r2r(data_dir, split)
    if "/" in name:
        return _read_file(Path(data_dir), split)
    return READERS[data](data_dir, split)


def _read_file(data_dir: Path, split: str) -> list[Instruction]:
    """A file in any form, which is seen from its first record."""
    cure = "name an existing file"
    path = Path(split_name(split)[0])
    if is_lines(path) and "instruction_id" in next(read_json_lines(path, cure), ("", {}))[1]:
        return read_rxr(data_dir, split)  # line by line, for it may be large
    path, items = read_split(split, Path, cure)
    first = items[0] if items else {}
    if "instruction_id" in first:
        return read_rxr(data_dir, split)
    if "bboxes" in first:
        return expand_targets(items, path)
    if "objId" in first:
        return expand_objects(items, places_of(read_boxes(data_dir / "reverie")), path)
    return expand(items, path)
