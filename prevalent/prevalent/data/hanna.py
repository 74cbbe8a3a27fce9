"""HANNA's tasks and routes: files, splits and words (Nguyen & Daumé III, EMNLP 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..simulator.geometry import NUM_VIEWS
from .records import NAME, NUMBER, check_record, place_of, read_json, read_json_list
from .results import Reference
from .tokenizers import EOS, PAD, UNK

CURE = "fetch it with `prevalent prepare hanna` or point --data-dir at the folder that holds hanna/"
TASK_FIELDS = {
    "path_id": NAME,
    "scan": str,
    "heading": NUMBER,
    "paths": [[str]],
    "instructions": [str],
}
ROUTE_FIELDS = {
    "path_id": NAME,
    "path": [str],
    "view_id": NUMBER,
    "split": str,
    "instruction": str,
}
HELPERS = {  # split -> routes that ANNA tells by default
    "train": "train_seen",
    "val_seen": "train_unseen",
    "test_seen": "train_unseen",
    "val_unseen": "val",
    "test_unseen": "test",
}
SEEN_HELP, UNSEEN_HELP = "_env_seen_anna", "_env_unseen_anna"  # ends of the authors' names


@dataclass(frozen=True)
class HannaTask:
    """Find an object: from ``start`` to any of ``goals``."""

    id: str
    """``PATHID_J``, J = number of the request of its item."""
    scan: str
    start: str
    heading: float
    """Start heading in radians."""
    goals: tuple[str, ...]
    text: str
    paths: tuple[tuple[str, ...], ...] = ()
    """A shortest path to every goal, as the file says."""

    @property
    def path(self) -> tuple[str, ...]:
        """Start and first goal, what every environment asks of a task."""
        return (self.start, self.goals[0])


@dataclass(frozen=True)
class Route:
    """A way through a scan that ANNA can tell."""

    id: int | str
    scan: str
    path: tuple[str, ...]
    view: int
    """View 0..35 that ANNA turns the traveller to at the start."""
    split: str
    """train_seen, train_unseen, val or test."""
    text: str


def resolve_split(name: str) -> tuple[str, str]:
    """Task file and ANNA's routes of a split.

    Args:
        name: ``train``, ``val_seen``, ``val_unseen``, ``test_seen``, ``test_unseen``, or the
            authors' ``val_seen_env_seen_anna``, ``test_seen_env_unseen_anna`` and so on.

    Returns:
        The split of the tasks and that of the routes. A plain ``*_seen`` split is helped with
        routes that training has not used, as in the published tables.
    """
    for end, helper in ((UNSEEN_HELP, "train_unseen"), (SEEN_HELP, "train_seen")):
        if name.endswith(end) and name.removesuffix(end) in HELPERS:
            return name.removesuffix(end), helper
    if name not in HELPERS:
        known = ", ".join(HELPERS)
        raise ValueError(
            f"split {name!r} is none of {known}; seen splits may end in {SEEN_HELP} or "
            f"{UNSEEN_HELP}"
        )
    return name, HELPERS[name]


def read_tasks(data_dir: Path, split: str) -> list[HannaTask]:
    """Tasks of a split, one for each of its texts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an item lacks a field.
    """
    path = data_dir / "hanna" / f"hanna_{resolve_split(split)[0]}.json"
    return list(expand_tasks(read_json_list(path, CURE), path))


def expand_tasks(items: Iterable[dict[str, Any]], origin: str | Path) -> Iterable[HannaTask]:
    """One task for each text of each item; ``ValueError`` names the first bad item."""
    for number, item in enumerate(items):
        where = place_of(item, origin, number)
        check_record(item, TASK_FIELDS, where)
        paths = tuple(tuple(path) for path in item["paths"])
        if not paths or not all(paths):
            raise ValueError(f"{where} has no path to a goal")
        for j, text in enumerate(item["instructions"]):
            yield HannaTask(
                id=f"{item['path_id']}_{j}",
                scan=item["scan"],
                start=paths[0][0],
                heading=float(item["heading"]),
                goals=tuple(path[-1] for path in paths),
                text=text,
                paths=paths,
            )


def references(tasks: Iterable[HannaTask]) -> list[Reference]:
    """What results are scored against."""
    return [Reference(one.id, one.scan, one.start, {"paths": one.paths}) for one in tasks]


def read_routes(data_dir: Path, scans: Iterable[str] | None = None) -> list[Route]:
    """Routes of ``scans`` (all when None) in file order; raises as `read_tasks` does."""
    path = data_dir / "hanna" / "routes.json"
    content = read_json(path, CURE)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold routes by scan; {CURE}")
    wanted = content if scans is None else [scan for scan in scans if scan in content]
    return [route for scan in wanted for route in expand_routes(scan, content[scan], path)]


def expand_routes(
    scan: str, items: Sequence[dict[str, Any]], origin: str | Path
) -> Iterable[Route]:
    """Routes of one scan; ``ValueError`` names the first bad item."""
    for number, item in enumerate(items):
        where = f"{origin}: route {number} of scan {scan!r}"
        check_record(item, ROUTE_FIELDS, where)
        if not item["path"]:
            raise ValueError(f"{where} has an empty 'path'")
        if not 0 <= item["view_id"] < NUM_VIEWS or item["view_id"] != int(item["view_id"]):
            raise ValueError(f"{where} has the view {item['view_id']}, not one of 0..35")
        yield Route(
            item["path_id"],
            scan,
            tuple(item["path"]),
            int(item["view_id"]),
            item["split"],
            item["instruction"],
        )


class SpaceTokenizer:
    """Numbers for words between spaces, with EOS behind them; HANNA's texts are tokenized already.

    Args:
        words: the vocabulary, start words first (``vocab.txt`` of the data).
        max_length: L; a longer text is cut and still ends with EOS.
    """

    def __init__(self, words: Sequence[str], max_length: int = 50) -> None:
        self.words, self.max_length = list(words), max_length
        self._numbers = {word: number for number, word in enumerate(words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, text: str) -> NDArray[np.int64]:
        """(L,) word numbers, padded with 0."""
        ids = [self._numbers.get(word, UNK) for word in text.lower().split()]
        encoded = np.full(self.max_length, PAD, dtype=np.int64)
        ids = [*ids[: self.max_length - 1], EOS]
        encoded[: len(ids)] = ids
        return encoded


def build_space_vocabulary(texts: Iterable[str], start_words: Sequence[str]) -> list[str]:
    """Start words, then all words between spaces in the order of first use."""
    words = (word for text in texts for word in text.lower().split())
    return [*start_words, *dict.fromkeys(words)]
