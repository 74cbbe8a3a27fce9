"""Room-for-Room: paths of Room-to-Room joined end to start (Jain et al., ACL 2019).

The set is made here by the rule of the authors' script, which is how it is published: R2R's licence
does not let them distribute it. Its counts are those of their page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..simulator.graph import Graphs
from .instructions import FIELDS, read_split
from .records import NUMBER, check_record, place_of

MOST_METERS = 3.0
SPLITS = ("train", "val_seen", "val_unseen")
CURE = (
    "make it with `prevalent prepare r4r` or point --data-dir or PREVALENT_DATA at the folder that "
    "holds r4r/"
)


def join_paths(
    items: Sequence[Mapping[str, Any]], graphs: Graphs, max_distance: float = MOST_METERS
) -> list[dict[str, Any]]:
    """Every two paths of a scan of which one ends near where the other starts, as one path.

    Args:
        items: records of an R2R file.
        graphs: of their scans.
        max_distance: longest shortest path in meters from the end of one to the start of the other.

    Returns:
        Records in R2R's form. A path is the first one, the shortest way to the second one's start,
        and the second one; its instructions are all pairs of theirs, joined as they stand; its
        heading is that of the first. A path may be joined with itself. ``shortest_path`` leads from
        the first start to the last goal.

    Raises ``ValueError`` naming the item that is bad.
    """
    by_scan: dict[str, list[Mapping[str, Any]]] = {}
    for number, item in enumerate(items):
        where = place_of(item, "R2R file", number)
        check_record(item, {**FIELDS, "distance": NUMBER}, where)
        if not item["path"]:
            raise ValueError(f"{where} has an empty 'path'")
        by_scan.setdefault(item["scan"], []).append(item)
    joined: list[dict[str, Any]] = []
    for scan, paths in by_scan.items():
        starts = graphs.nodes([scan] * len(paths), [item["path"][0] for item in paths])
        ends = graphs.nodes([scan] * len(paths), [item["path"][-1] for item in paths])
        near = graphs.distance(ends[:, None], starts) <= max_distance
        for first, second in np.argwhere(near).tolist():
            record = _join(paths[first], paths[second], graphs)
            joined.append({"path_id": len(joined), **record})
    return joined


def _join(first: Mapping[str, Any], second: Mapping[str, Any], graphs: Graphs) -> dict[str, Any]:
    view = graphs.by_name(first["scan"])
    between = view.path(first["path"][-1], second["path"][0])
    whole = view.path(first["path"][0], second["path"][-1])
    length = view.distance(between[0], between[-1])
    return {
        "scan": first["scan"],
        "heading": first["heading"],
        "path": first["path"][:-1] + between + second["path"][1:],
        "distance": first["distance"] + length + second["distance"],
        "instructions": [a + b for a in first["instructions"] for b in second["instructions"]],
        "shortest_path": whole,
        "shortest_path_distance": view.distance(whole[0], whole[-1]),
        "first_path_id": first["path_id"],
        "second_path_id": second["path_id"],
    }


def read_r4r(data_dir: str | Path, split: str) -> tuple[Path, list[dict[str, Any]]]:
    """File and items of ``r4r/R4R_SPLIT.json``; splits as those of `instructions.read_paths`."""
    return read_split(split, lambda name: Path(data_dir) / "r4r" / f"R4R_{name}.json", CURE)
