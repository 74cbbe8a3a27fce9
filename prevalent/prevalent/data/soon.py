"""SOON, the data set FAO: find an object from anywhere by a description (Zhu et al., CVPR 2021)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .instructions import Instruction, read_split
from .records import NAME, NUMBER, check_record, place_of

PAGE = "https://github.com/ZhuFengdaaa/SOON"
CURE = (
    "fetch it by hand (`prevalent prepare soon` says where) or point --data-dir or PREVALENT_DATA "
    "at the folder that holds soon/"
)
SPLITS = ("train", "val_seen_instrs", "val_unseen_instrs", "val_unseen_house", "test")
"""The number of a split begins the ids of its paths in the authors' code."""
FULL = 4
"""Which of the five texts of an instruction is the whole description."""
START_HEADING = 1.52
"""Radians; of every start in the evaluations that are published (DUET's code)."""
CORNERS = ("left_top", "right_top", "right_bottom", "left_bottom")
ANGLES = {"heading": NUMBER, "elevation": NUMBER}


def read_soon(data_dir: str | Path, split: str) -> list[Instruction]:
    """Instructions of ``soon/SPLIT.json`` (or ``.jsonl``), one for each path and description.

    Two forms are read: the published one, whose items have several paths and five texts an
    instruction, and that of DUET, with one path and its ``path_id``.

    Args:
        data_dir: folder with ``soon/``.
        split: ``train``, ``val_unseen_instrs``, ``val_unseen_house``, ``test``, or another name of
            a file; a path with a slash; ``@N`` behind either takes N random items (seed 0).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a record lacks a field; names file and record.
    """
    path, items = read_split(split, lambda name: _find(Path(data_dir) / "soon", name), CURE)
    name = split.partition("@")[0]
    number = SPLITS.index(name) if name in SPLITS else len(SPLITS)
    return expand_targets(items, path, number)


def _find(folder: Path, name: str) -> Path:
    places = [folder / f"{name}{end}" for end in (".json", ".jsonl", ".json.gz", ".jsonl.gz")]
    return next((path for path in places if path.is_file()), places[0])


def expand_targets(
    items: Iterable[Mapping[str, Any]], origin: str | Path, split_number: int = 0
) -> list[Instruction]:
    """One `Instruction` for each path and each description of each item.

    Ids are ``PATHID_J``. Paths without an id get ``SPLIT-NUMBER``, counted through the file, as in
    the authors' code. ``item`` has the ``targets``: viewpoint -> corners of the object (heading and
    elevation in radians), and the ``source`` id under which the published form submits.
    """
    found: list[Instruction] = []
    count = 0
    for number, item in enumerate(items):
        where = place_of(item, origin, number)
        check_record(item, {"path": list, "instructions": list}, where)
        if "heading" in item:
            check_record(item, {"heading": NUMBER}, where)
        targets, scan = _targets(item, where)
        several = bool(item["path"]) and isinstance(item["path"][0], list)
        paths = item["path"] if several else [item["path"]]
        for path in paths:
            check_record({"path": path}, {"path": [str]}, where)
            if not path:
                raise ValueError(f"{where} has an empty 'path'")
            own = item.get("path_id") if not several else None
            path_id = own if isinstance(own, NAME) else f"{split_number}-{count}"
            count += 1
            for j, text in enumerate(item["instructions"]):
                found.append(
                    Instruction(
                        id=f"{path_id}_{j}",
                        path_id=path_id,
                        scan=scan,
                        path=tuple(path),
                        heading=float(item.get("heading", START_HEADING)),
                        text=_description(text, f"{where}: instruction {j}"),
                        item={"targets": targets, "source": str(item.get("instr_id", number))},
                    )
                )
    return found


def _description(text: Any, where: str) -> str:
    """The whole description: the fifth of five texts, or the field ``full``."""
    if isinstance(text, str):
        return text
    if isinstance(text, list) and len(text) > FULL and isinstance(text[FULL], str):
        return text[FULL]
    if isinstance(text, dict) and isinstance(text.get("full"), str):
        return str(text["full"])
    raise ValueError(f"{where} must be a text, a list of five texts, or a record with 'full'")


def _targets(item: Mapping[str, Any], where: str) -> tuple[dict[str, Any], str]:
    """Viewpoint -> (4, 2) heading and elevation of the corners; and the scan."""
    boxes = item.get("bboxes", [])
    if isinstance(boxes, dict):  # DUET: by viewpoint
        check_record(boxes, dict.fromkeys(boxes, dict), f"{where}: 'bboxes'")
        boxes = [{"image_id": name, **box} for name, box in boxes.items()]
    check_record({"bboxes": boxes}, {"bboxes": [dict]}, where)
    targets, scan = {}, item.get("scan")
    for number, box in enumerate(boxes):
        of = f"{where}: box {number}"
        check_record(box, {"image_id": str, "target": dict}, of)
        for corner in CORNERS:
            check_record(box["target"], {corner: dict}, of)
            check_record(box["target"][corner], ANGLES, f"{of}: {corner!r}")
        corners = [box["target"][corner] for corner in CORNERS]
        targets[box["image_id"]] = [[one["heading"], one["elevation"]] for one in corners]
        scan = scan or box.get("scan")
    if not isinstance(scan, str):
        raise ValueError(f"{where} has no 'scan'")
    return targets, scan
