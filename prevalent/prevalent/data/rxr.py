"""Room-across-Room: guides and followers in English, Hindi and Telugu (Ku et al., EMNLP 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .instructions import Instruction, pick, split_name
from .records import NAME, NUMBER, check_record, is_lines, place_of, read_json_lines, read_json_list

CURE = (
    "fetch it with `prevalent prepare rxr` or point --data-dir or PREVALENT_DATA at the folder "
    "that holds rxr/"
)
FILES = {
    "train": "rxr_train_guide",
    "val_seen": "rxr_val_seen_guide",
    "val_unseen": "rxr_val_unseen_guide",
    "test_standard": "rxr_test_standard_public_guide",
    "test_challenge": "rxr_test_challenge_public_guide",
}
"""Split -> name of its file of guides."""
FOLLOWERS = {split: f"rxr_{split}_follower" for split in ("train", "val_seen", "val_unseen")}
LANGUAGES = {"en": ("en-IN", "en-US"), "hi": ("hi-IN",), "te": ("te-IN",)}
FIELDS = {
    "instruction_id": NAME,
    "language": str,
    "scan": str,
    "path": [str],
    "heading": NUMBER,
    "instruction": str,
}
FOLLOWER_FIELDS = {"demonstration_id": NAME, "instruction_id": NAME, "path": [str]}


def read_rxr(data_dir: str | Path, split: str, language: str = "") -> list[Instruction]:
    """Guides of a split in file order, one instruction a record.

    Args:
        data_dir: folder with ``rxr/rxr_SPLIT_guide.jsonl.gz``, unpacked or not.
        split: ``train``, ``val_seen``, ``val_unseen``, ``test_standard``, ``test_challenge``; a
            path with a slash; ``@N`` behind either takes a random N (seed 0).
        language: ``en``, ``hi``, ``te``; all where empty.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a record lacks a field; names file and record, or no record has the language.
    """
    name, number = split_name(split)
    path = Path(name) if "/" in name else _find(Path(data_dir), FILES.get(name, name))
    found = pick(read_guides(path), number)
    if language:
        found = [one for one in found if one.item["language"] in LANGUAGES[language]]
        if not found:
            raise ValueError(f"{path} has no instruction in {' or '.join(LANGUAGES[language])}")
    return found


def read_guides(path: Path) -> list[Instruction]:
    """One `Instruction` for each guide of a file, whose id is its ``instruction_id``.

    The file is read line by line: what it says of the time of every word is not kept.
    """
    if is_lines(path):
        return [_to_instruction(item, where) for where, item in read_json_lines(path, CURE)]
    items = enumerate(read_json_list(path, CURE))
    return [_to_instruction(item, place_of(item, path, number)) for number, item in items]


def _to_instruction(item: Mapping[str, Any], where: str) -> Instruction:
    check_record(item, FIELDS, where)
    if not item["path"]:
        raise ValueError(f"{where} has an empty 'path'")
    return Instruction(
        id=str(item["instruction_id"]),
        path_id=item.get("path_id", item["instruction_id"]),
        scan=item["scan"],
        path=tuple(item["path"]),
        heading=float(item["heading"]),
        text=item["instruction"],
        item={"language": item["language"]},
    )


class Demonstration(NamedTuple):
    """How a person followed the instruction of another."""

    id: str
    instruction: str
    """The ``instruction_id`` of the guide."""
    path: tuple[str, ...]
    metrics: Mapping[str, float]
    """``ne``, ``sr``, ``spl``, ``dtw``, ``ndtw``, ``sdtw`` against the guide, as published."""


def read_followers(data_dir: str | Path, split: str) -> Iterator[Demonstration]:
    """Followers of ``train``, ``val_seen``, ``val_unseen`` in file order; raises as `read_rxr`."""
    path = _find(Path(data_dir), FOLLOWERS.get(split, split))
    for where, item in read_json_lines(path, CURE):
        check_record(item, FOLLOWER_FIELDS, where)
        if not item["path"]:
            raise ValueError(f"{where} has an empty 'path'")
        yield Demonstration(
            str(item["demonstration_id"]),
            str(item["instruction_id"]),
            tuple(item["path"]),
            item.get("metrics", {}),
        )


def _find(data_dir: Path, name: str) -> Path:
    packed, plain = (data_dir / "rxr" / f"{name}.jsonl{end}" for end in (".gz", ""))
    return plain if plain.is_file() and not packed.is_file() else packed
