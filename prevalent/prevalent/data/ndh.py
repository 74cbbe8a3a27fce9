"""Dialogs of NDH: files, splits, path types and their texts (Thomason et al., CoRL 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..metrics.navigation import PathType, reference_path
from .instructions import read_split
from .records import NAME, NUMBER, check_record, place_of
from .results import Reference
from .tokenizers import (
    DIALOG_TOKENS,
    DIALOG_WORDS,
    START_WORDS,
    DialogWordTokenizer,
    History,
    WordPieceTokenizer,
    dialog_turns,
    read_vocabulary,
)

Tags = Literal["authors", "whole"]
FIELDS = {
    "inst_idx": NAME,
    "scan": str,
    "target": str,
    "start_pano": dict,
    "dialog_history": [dict],
}
ROLES = ("navigator", "oracle")
WHOLE_TAGS = ("<NAV>", "<ORA>", "<TAR>")


@dataclass(frozen=True)
class Dialog:
    """What was said until a question was answered, and the walk that is asked for."""

    id: str
    """``inst_idx``, the key of a result."""
    scan: str
    path: tuple[str, ...]
    """Viewpoints of the path type; the start alone where the file holds no paths (test split)."""
    heading: float
    """Start heading in radians. The files' elevations are unusable; agents start level."""
    target: str
    """The object to be found."""
    turns: tuple[Mapping[str, Any], ...]
    """``role`` (navigator or oracle) and ``message`` of everything said so far."""
    item: Mapping[str, Any]
    """The record of the file, which scores are computed from."""

    @property
    def has_paths(self) -> bool:
        """False in the test split, whose goals the leaderboard keeps."""
        return "end_panos" in self.item

    @property
    def reference(self) -> Reference:
        """What a result is held against."""
        return Reference(self.id, self.scan, self.path[0], self.item)


class DialogTokenizer(Protocol):
    """What both tokenizers of dialogs can do."""

    def __len__(self) -> int: ...

    def encode_dialog(
        self, dialog: Sequence[Mapping[str, Any]], target: str, history: History
    ) -> NDArray[np.int64]: ...


def read_dialogs(
    data_dir: str | Path, split: str, path_type: PathType = "trusted_path"
) -> list[Dialog]:
    """Dialogs of a split, in file order.

    Args:
        data_dir: folder with ``ndh/SPLIT.json``.
        split: ``train``, ``val_seen``, ...; a path with a slash to a file of the same format;
            ``@N`` behind either takes a random N (seed 0).
        path_type: whose path is right: ``planner_path`` (the oracle's plan, "Oracle"),
            ``player_path`` (the human's way, "Navigator") or ``trusted_path`` (the human's where it
            reaches the end of the plan, else the plan, "Mixed").

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no list of dialogs; names the first bad item.
    """
    path, items = read_split(
        split,
        lambda name: Path(data_dir) / "ndh" / f"{name}.json",
        "fetch it with `prevalent prepare ndh` or point --data-dir or PREVALENT_DATA at the folder "
        "that holds ndh/",
    )
    return [to_dialog(item, path_type, place_of(item, path, i)) for i, item in enumerate(items)]


def to_dialog(item: Mapping[str, Any], path_type: PathType, origin: str = "item") -> Dialog:
    """One record of an official file; ``ValueError`` begins with ``origin``."""
    check_record(item, FIELDS, origin)
    check_record(item["start_pano"], {"pano": str, "heading": NUMBER}, f"{origin}: 'start_pano'")
    for number, turn in enumerate(item["dialog_history"]):
        check_record(turn, {"role": str, "message": str}, f"{origin}: turn {number}")
        if turn["role"] not in ROLES:
            raise ValueError(
                f"{origin}: turn {number} is said by {turn['role']!r}, not by {' or '.join(ROLES)}"
            )
    return Dialog(
        id=str(item["inst_idx"]),
        scan=item["scan"],
        path=path_of(item, path_type),
        heading=float(item["start_pano"]["heading"]),
        target=item["target"],
        turns=tuple(item["dialog_history"]),
        item=item,
    )


def path_of(item: Mapping[str, Any], path_type: PathType) -> tuple[str, ...]:
    """The path that is called right; the start alone where the record holds no paths."""
    if "planner_path" in item and "player_path" in item:
        return tuple(reference_path(item, path_type))
    return (item["start_pano"]["pano"],)


def encode_dialogs(
    dialogs: Iterable[Dialog], tokenizer: DialogTokenizer, history: History
) -> NDArray[np.int64]:
    """(N, L) ids of what ``history`` keeps of each dialog, padded with 0."""
    return np.stack([tokenizer.encode_dialog(one.turns, one.target, history) for one in dialogs])


def tell(dialog: Dialog, history: History) -> str:
    """What ``history`` keeps of a dialog, for people."""
    return " ".join(
        f"{tag} {text}" for tag, text in dialog_turns(dialog.turns, dialog.target, history)
    )


def open_dialog_pieces(
    vocabulary: Path, max_length: int, *, tags: Tags = "authors", keep_first: bool = False
) -> WordPieceTokenizer:
    """WordPiece with the three tags of dialogs behind its vocabulary.

    Args:
        vocabulary: BERT's, or one in its format.
        max_length: L; a longer dialog keeps its end.
        tags: ``authors`` adds ``<NAV>``, ``ORA`` and ``TAR``, a slip that their checkpoints have
            learned with; ``whole`` adds all three in angle brackets.
        keep_first: keep [CLS] in front of a dialog that is cut; the authors lose it.
    """
    extra = DIALOG_TOKENS if tags == "authors" else WHOLE_TAGS
    truncate: Literal["left", "left-keep-cls"] = "left-keep-cls" if keep_first else "left"
    return WordPieceTokenizer(vocabulary, max_length, truncate=truncate, extra_tokens=extra)


def open_dialog_words(vocabulary: Path, max_length: int) -> DialogWordTokenizer:
    """Words of an R2R or NDH vocabulary file, one a line."""
    words = read_vocabulary(vocabulary, START_WORDS[:2])
    return DialogWordTokenizer([word for word in words if word not in DIALOG_WORDS], max_length)
