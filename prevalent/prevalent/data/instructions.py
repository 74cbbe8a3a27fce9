"""Room-to-Room instructions: files, splits and the order in which the authors visit them."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..runtime.options import option, shown
from .records import NAME, NUMBER, check_record, place_of, read_json_list

logger = logging.getLogger(__name__)
Item = TypeVar("Item")
SHUFFLE_SEED = 10
SAMPLE_SEED = 0
FIELDS = {
    "scan": str,
    "path": [str],
    "heading": NUMBER,
    "instructions": [str],
    "path_id": NAME,
}
AUGMENTED = {
    "envdrop": "aug_paths.json",
    "prevalent": "prevalent_aug.json",
    "speaker-follower": "R2R_literal_speaker_data_augmentation_paths.json",
}
"""Sets of machine-made instructions that are split names too, and their files in ``r2r/``."""


@dataclass(frozen=True)
class Instruction:
    """One instruction of one path."""

    id: str
    """``PATHID_J``, J = number of the instruction of its path."""
    path_id: int | str
    scan: str
    path: tuple[str, ...]
    """Viewpoints from start to goal; the start alone in the test split."""
    heading: float
    """Start heading in radians."""
    text: str
    distance: float = 0.0
    """Length of the path in meters, as the file says (0 where it does not)."""
    item: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What scores need beside the path: the object, where it is seen from, the language."""


def read_paths(data_dir: str | Path, split: str) -> list[dict[str, Any]]:
    """Items of an R2R file.

    Args:
        data_dir: folder with ``r2r/R2R_SPLIT.json``; the files may also stand in it directly.
        split: ``train``, ``val_seen``, ...; the name of an augmented set (``envdrop``,
            ``prevalent``, ``speaker-follower``); a path with a slash to a file of the same format;
            ``@N`` behind any takes a random N (seed 0; the first N of a larger sample).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON list of records.
    """
    name = split.partition("@")[0]
    what = f"aug-{name}" if name in AUGMENTED else "r2r"
    cure = (
        f"fetch it (split {split!r}) with `prevalent prepare {what}` or point --data-dir or "
        "PREVALENT_DATA at the folder that holds r2r/"
    )
    return read_split(split, lambda name: _find_split(Path(data_dir), name), cure)[1]


def read_split(
    split: str, find: Callable[[str], Path], cure: str
) -> tuple[Path, list[dict[str, Any]]]:
    """The file and the items of ``split``, as `read_paths` takes it.

    Args:
        split: name or path, ``@N`` behind it.
        find: the file of a name.
        cure: where a missing file is had.
    """
    name, number = split_name(split)
    path = Path(name) if "/" in name else find(name)
    return path, pick(read_json_list(path, cure), number)


def split_name(split: str) -> tuple[str, int | None]:
    """Name or path of a split, and the number behind ``@`` if there is one."""
    name, mark, number = split.partition("@")
    if mark and (not number.isdecimal() or int(number) < 1):
        raise ValueError(f"split {split!r}: {number!r} after @ must be a whole number from 1 on")
    return name, int(number) if mark else None


def pick(items: list[Item], number: int | None) -> list[Item]:
    """A random ``number`` of ``items`` (seed 0), all in their order where it is None."""
    if number is None:
        return items
    random.Random(SAMPLE_SEED).shuffle(items)
    return items[:number]


def refuse_repeated(**options: Sequence[str]) -> None:
    """Raise ``ValueError`` where a list of splits has one twice: its items would count twice.

    ``train`` and ``train@100`` are one split.
    """
    for name, splits in options.items():
        plain = [re.sub(r"@\d+$", "", split) for split in splits]
        twice = [one for number, one in enumerate(plain) if one in plain[:number]]
        if twice:
            raise ValueError(
                f"{option(name)} names {shown(twice[0])} twice, and its items would count twice; "
                "name every split once"
            )


def _find_split(data_dir: Path, name: str) -> Path:
    if name in AUGMENTED:
        return data_dir / "r2r" / AUGMENTED[name]
    nested = data_dir / "r2r" / f"R2R_{name}.json"
    flat = data_dir / f"R2R_{name}.json"
    return flat if flat.is_file() and not nested.is_file() else nested


def expand(items: Iterable[dict[str, Any]], origin: str | Path = "R2R file") -> list[Instruction]:
    """One `Instruction` for each text of each item; ``ValueError`` names the first bad item."""
    instructions = []
    for number, item in enumerate(items):
        where = place_of(item, origin, number)
        check_record(item, FIELDS, where)
        if not item["path"]:
            raise ValueError(f"{where} has an empty 'path'")
        if "distance" in item:
            check_record(item, {"distance": NUMBER}, where)
        for j, text in enumerate(item["instructions"]):
            instructions.append(
                Instruction(
                    id=f"{item['path_id']}_{j}",
                    path_id=item["path_id"],
                    scan=item["scan"],
                    path=tuple(item["path"]),
                    heading=float(item["heading"]),
                    text=text,
                    distance=float(item.get("distance", 0.0)),
                )
            )
    return instructions


def read_instructions(
    data_dir: str | Path,
    splits: Sequence[str],
    *,
    scans: Collection[str] | None = None,
    shuffle_seed: int | None = SHUFFLE_SEED,
) -> list[Instruction]:
    """Instructions of ``splits`` in the authors' order.

    Args:
        data_dir: see `read_paths`.
        splits: see `read_paths`; they follow each other before the shuffle.
        scans: keep these scans only (those that have features), before the shuffle.
        shuffle_seed: seed of the one shuffle after loading; None keeps the order of the files.
    """
    instructions = []
    for split in splits:
        instructions += expand(read_paths(data_dir, split), split)
    if scans is not None:
        instructions = [one for one in instructions if one.scan in scans]
    if shuffle_seed is not None:
        random.Random(shuffle_seed).shuffle(instructions)
    return instructions


def with_goals(instructions: Sequence[Instruction], split: str) -> list[Instruction]:
    """Those of ``split`` whose path leads to a goal; says how many hold the start alone.

    Raises ``ValueError`` where none has one, as in test splits: nothing can be learned there.
    """
    found = [one for one in instructions if len(one.path) > 1]
    if instructions and not found:
        raise ValueError(
            f"the split {split!r} hides its goals (a test split): its paths are the starts alone, "
            "so that nothing can be learned or measured there; give another split"
        )
    if len(found) < len(instructions):
        left_out, count = len(instructions) - len(found), len(instructions)
        logger.warning("%s: %d of %d paths have no goal; left out", split, left_out, count)
    return found


class BatchOrder:
    """Endless batches of indices that wrap around as the authors' environments do.

    Batches are slices; where fewer than a batch remain, the data is shuffled and the batch is
    completed from its start, so a few items repeat.

    Args:
        count: number of items.
        batch_size: indices of a batch.
        seed: of the shuffles at the wrap-around.
    """

    def __init__(self, count: int, batch_size: int, seed: int = SHUFFLE_SEED) -> None:
        if count < 1:
            raise ValueError("there is nothing to make batches of: the split is empty")
        self.batch_size = batch_size
        self._order = list(range(count))
        self._next = 0
        self._random = random.Random(seed)

    def __iter__(self) -> BatchOrder:
        return self

    def __next__(self) -> list[int]:
        batch = self._order[self._next : self._next + self.batch_size]
        self._next += len(batch)
        while len(batch) < self.batch_size:
            self._random.shuffle(self._order)
            self._next = min(self.batch_size - len(batch), len(self._order))
            batch = batch + self._order[: self._next]
        return batch

    def reset(self) -> None:
        """Back to the start of the present order."""
        self._next = 0

    def state_dict(self) -> dict[str, Any]:
        version, words, gauss = self._random.getstate()
        return {"order": list(self._order), "next": self._next, "random": [version, words, gauss]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._order, self._next = list(state["order"]), state["next"]
        version, words, gauss = state["random"]
        self._random.setstate((version, tuple(words), gauss))
