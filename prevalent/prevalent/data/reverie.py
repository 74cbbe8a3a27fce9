"""REVERIE: go and find an object that a short instruction names (Qi et al., CVPR 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..simulator.geometry import NUM_VIEWS
from .instructions import Instruction, read_split
from .records import NAME, NUMBER, check_record, place_of, read_json

PAGE = "https://github.com/YuankaiQi/REVERIE"
CURE = (
    f"fetch it by hand from {PAGE} (`prevalent prepare reverie` says how) or point --data-dir or "
    "PREVALENT_DATA at the folder that holds reverie/"
)
FIELDS = {"scan": str, "path": [str], "heading": NUMBER, "instructions": [str]}
BOX_FIELDS = {"visible_pos": [int], "bbox2d": [list]}


class Box(NamedTuple):
    """An object as it is seen from one viewpoint."""

    name: str
    views: tuple[int, ...]
    """Views 0..35 that show it; none where it cannot be seen from there."""
    boxes: tuple[tuple[float, float, float, float], ...]
    """Left, top, width, height in pixels of the 640 x 480 view, one for each of ``views``."""


Boxes = dict[tuple[str, str], dict[str, Box]]
"""(scan, viewpoint) -> id of an object -> how it is seen."""


def read_reverie(data_dir: str | Path, split: str) -> list[Instruction]:
    """Instructions of ``reverie/REVERIE_SPLIT.json`` in file order.

    Every instruction knows the ``object`` that is meant and the ``goals`` from which it is seen;
    neither is there in the test split.

    Args:
        data_dir: folder with ``reverie/``: the splits and the boxes, see `read_boxes`.
        split: as of `instructions.read_paths`.

    Raises:
        FileNotFoundError: there is no such file, or there are no boxes.
        ValueError: a record lacks a field, or its object is seen from nowhere.
    """
    folder = Path(data_dir) / "reverie"
    path, items = read_split(split, lambda name: folder / f"REVERIE_{name}.json", CURE)
    told = any(item.get("objId") is not None for item in items)
    return expand_objects(items, places_of(read_boxes(folder)) if told else {}, path)


def expand_objects(
    items: Iterable[Mapping[str, Any]],
    places: Mapping[tuple[str, str], tuple[str, ...]],
    origin: str | Path,
) -> list[Instruction]:
    """One `Instruction` for each text of each item; ``places`` as of `places_of`."""
    found = []
    for number, item in enumerate(items):
        where = place_of(item, origin, number)
        check_record(item, FIELDS, where)
        if not item["path"]:
            raise ValueError(f"{where} has an empty 'path'")
        name, about = item.get("id"), {}
        if item.get("objId") is not None:
            check_record(item, {"objId": NAME, "path_id": NAME}, where)
            key = (item["scan"], str(item["objId"]))
            if key not in places:
                raise ValueError(
                    f"{where}: no viewpoint of scan {key[0]!r} shows its object {key[1]}; the "
                    "boxes belong to another version of the data"
                )
            about = {"object": key[1], "goals": places[key]}
            name = f"{item['path_id']}_{key[1]}" if name is None else name
        if not isinstance(name, NAME):
            raise ValueError(f"{where} has no 'id'")
        for j, text in enumerate(item["instructions"]):
            found.append(
                Instruction(
                    id=f"{name}_{j}",
                    path_id=item.get("path_id", name),
                    scan=item["scan"],
                    path=tuple(item["path"]),
                    heading=float(item["heading"]),
                    text=text,
                    item=about,
                )
            )
    return found


def read_boxes(folder: Path) -> Boxes:
    """Objects of all viewpoints: ``BBoxes.json``, or at first ``bbox/SCAN_VIEWPOINT.json``.

    Args:
        folder: that holds either.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: an entry lacks a field, or shows an object in a view that does not exist.
    """
    boxes: Boxes = {}
    for where, scan, viewpoint, objects in _box_files(folder):
        if not isinstance(objects, dict):
            raise ValueError(f"{where}: {scan}_{viewpoint} must hold objects by their ids")
        seen = boxes.setdefault((scan, viewpoint), {})
        for name, item in objects.items():
            seen[name] = _to_box(item, f"{where}: object {name} of {scan}_{viewpoint}")
    return boxes


def _box_files(folder: Path) -> Iterator[tuple[Path, str, str, Any]]:
    whole = next((p for p in sorted(folder.glob("BBoxes*.json*")) if p.is_file()), None)
    if whole is not None:
        content = read_json(whole, CURE)
        if not isinstance(content, dict):
            raise ValueError(f"{whole} must hold objects by SCAN_VIEWPOINT; {CURE}")
        for name, objects in content.items():
            yield (whole, *_parted(name, whole), objects)
        return
    files = sorted((folder / "bbox").glob("*.json"))
    if not files:
        raise FileNotFoundError(f"{folder} holds neither BBoxes.json nor bbox/; {CURE}")
    for path in files:
        scan, viewpoint = _parted(path.stem, path)
        content = read_json(path, CURE)
        if not isinstance(content, dict) or viewpoint not in content:
            raise ValueError(f"{path} must hold the objects of viewpoint {viewpoint!r}; {CURE}")
        yield path, scan, viewpoint, content[viewpoint]


def _parted(name: str, path: Path) -> tuple[str, str]:
    scan, mark, viewpoint = name.partition("_")
    if not mark:
        raise ValueError(f"{path}: {name!r} is no SCAN_VIEWPOINT; {CURE}")
    return scan, viewpoint


def _to_box(item: Any, where: str) -> Box:
    if not isinstance(item, dict):
        raise ValueError(f"{where} must be a record")
    check_record(item, BOX_FIELDS, where)
    views, boxes = item["visible_pos"], item["bbox2d"]
    if len(views) != len(boxes):
        raise ValueError(f"{where}: 'bbox2d' has {len(boxes)} boxes for {len(views)} views")
    if not all(0 <= view < NUM_VIEWS for view in views):
        raise ValueError(f"{where}: 'visible_pos' names a view outside 0..{NUM_VIEWS - 1}")
    for box in boxes:
        check_record({"box": box}, {"box": [NUMBER]}, where)
        if len(box) != 4:
            raise ValueError(f"{where}: a box must be [left, top, width, height], got {box}")
    return Box(str(item.get("name", "")), tuple(views), tuple((*box,) for box in boxes))


def places_of(boxes: Boxes) -> dict[tuple[str, str], tuple[str, ...]]:
    """(scan, id of an object) -> the viewpoints that show it, where REVERIE calls a stop right."""
    places: dict[tuple[str, str], list[str]] = {}
    for (scan, viewpoint), objects in boxes.items():
        for name, box in objects.items():
            if box.views:
                places.setdefault((scan, name), []).append(viewpoint)
    return {key: tuple(viewpoints) for key, viewpoints in places.items()}
