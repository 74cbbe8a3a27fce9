"""Results of agents: what they answer, how they are read, checked, scored and submitted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..metrics.navigation import (
    PathType,
    mean_hanna_scores,
    mean_ndh_scores,
    mean_request_scores,
    mean_scores,
    score_hanna,
    score_ndh,
    score_path,
)
from ..runtime.files import write_atomically
from ..simulator.graph import Graphs, SimulatorError
from .instructions import expand, read_paths
from .records import NAME, check_record, read_json_list

Results = dict[str, dict[str, Any]]


Task = Literal["r2r", "ndh", "hanna"]
ID_FIELDS: dict[str, str] = {"r2r": "instr_id", "ndh": "inst_idx", "hanna": "instr_id"}
TASK_FIELDS: dict[str, dict[str, Any]] = {
    "ndh": {"inst_idx": NAME, "scan": str, "start_pano": dict},
    "hanna": {"path_id": NAME, "scan": str, "paths": [[str]], "instructions": [str]},
}
MOST_RADIANS = 1000.0  # of a heading that was ever added up by turning
PATH_FIELDS: dict[str, str] = {"r2r": "trajectory", "ndh": "trajectory", "hanna": "agent_pose"}


class Reference(NamedTuple):
    """What one result is held against."""

    id: str
    scan: str
    start: str
    item: Mapping[str, Any]
    """The record of the official file; R2R: with ``path`` of the instruction."""


def read_references(data_dir: Path, task: Task, split: str) -> list[Reference]:
    """What a complete result file of ``task`` and ``split`` answers, in file order."""
    if task == "r2r":
        instructions = expand(read_paths(data_dir, split), split)
        return [Reference(i.id, i.scan, i.path[0], {"path": i.path}) for i in instructions]
    # The authors' names of HANNA's splits also say whose routes ANNA tells (..._env_seen_anna).
    name = split if task == "ndh" else f"hanna_{split.partition('_env_')[0]}"
    path = data_dir / task / f"{name}.json"
    items = read_json_list(path, f"fetch it with `prevalent prepare {task}`")
    for number, item in enumerate(items):
        check_record(item, TASK_FIELDS[task], f"{path}: item {number}")
        if task == "ndh":
            check_record(item["start_pano"], {"pano": str}, f"{path}: item {number}: 'start_pano'")
    if task == "ndh":
        return [
            Reference(str(item["inst_idx"]), item["scan"], item["start_pano"]["pano"], item)
            for item in items
        ]
    return [
        Reference(f"{item['path_id']}_{j}", item["scan"], item["paths"][0][0], item)
        for item in items
        for j in range(len(item["instructions"]))
    ]


def read_results(path: Path, task: Task) -> dict[str, dict[str, Any]]:
    """Records of a result file by id; ``ValueError`` names the first that is malformed."""
    results: dict[str, dict[str, Any]] = {}
    for number, record in enumerate(read_json_list(path, "name an existing file with --results")):
        fields = {ID_FIELDS[task]: NAME, PATH_FIELDS[task]: [list]}
        check_record(record, fields, f"{path}: record {number}")
        steps = record[PATH_FIELDS[task]]
        wrong = next((step for step in steps if not _is_pose(step)), None)
        if not steps or wrong is not None:
            raise ValueError(
                f"{path}: record {number} must list [viewpoint, heading, elevation] steps, with "
                f"angles in radians; it has {wrong or 'none'}"
            )
        name = str(record[ID_FIELDS[task]])
        if name in results:
            raise ValueError(f"{path}: instruction {name!r} occurs twice")
        results[name] = record
    return results


def _is_pose(step: Sequence[Any]) -> bool:
    numbers = [
        one for one in step[1:] if isinstance(one, int | float) and not isinstance(one, bool)
    ]
    right = len(step) == 3 and isinstance(step[0], str) and len(numbers) == 2
    return right and all(math.isfinite(one) and abs(one) < MOST_RADIANS for one in numbers)


def check_results(
    results: Mapping[str, Mapping[str, Any]],
    references: Iterable[Reference],
    graphs: Graphs,
    task: Task,
    *,
    allow_missing: bool = False,
    allow_jumps: bool = False,
) -> None:
    """Raise ``ValueError`` naming the first result that is missing, foreign or impossible.

    Args:
        results: by id.
        references: the split's.
        graphs: of its scans.
        task: decides the fields.
        allow_missing: accept a part of the split.
        allow_jumps: accept steps between viewpoints that share no edge.
    """
    known = {reference.id: reference for reference in references}
    foreign = next((name for name in results if name not in known), None)
    if foreign is not None:
        raise ValueError(f"result {foreign!r} belongs to no instruction of the split")
    for name, reference in known.items():
        if name not in results:
            if allow_missing:
                continue
            raise ValueError(
                f"instruction {name!r} has no result ({len(results)} of {len(known)} are there)"
            )
        walked = [step[0] for step in results[name][PATH_FIELDS[task]]]
        _check_walk(name, walked, reference, graphs, allow_jumps)


def _check_walk(
    name: str, walked: Sequence[str], reference: Reference, graphs: Graphs, allow_jumps: bool
) -> None:
    if walked[0] != reference.start:
        raise ValueError(
            f"result {name!r} begins at {walked[0]!r}, its instruction at {reference.start!r}"
        )
    try:
        nodes = [graphs.node(reference.scan, viewpoint) for viewpoint in walked]
    except SimulatorError as error:
        raise ValueError(f"result {name!r}: {error}") from None
    if allow_jumps:
        return
    for number, (a, b) in enumerate(pairwise(nodes), start=1):
        if a != b and not graphs.adjacent(a, b):
            raise ValueError(
                f"result {name!r} jumps at step {number} from {walked[number - 1]!r} to "
                f"{walked[number]!r}, which share no edge"
            )


def write_submission(path: Path, results: Mapping[str, Mapping[str, Any]], task: Task) -> None:
    """The leaderboard's form: id and steps, sorted keys, indent 4 (atomic)."""
    fields = (ID_FIELDS[task], PATH_FIELDS[task])
    records = [{field: record[field] for field in fields} for record in results.values()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(records, sort_keys=True, indent=4) + "\n")


def score_results(
    results: Mapping[str, Mapping[str, Any]],
    references: Sequence[Reference],
    graphs: Graphs,
    task: Task = "r2r",
    *,
    path_type: PathType = "trusted_path",
) -> dict[str, float]:
    """Mean scores of checked results under the task's metric names.

    Raises ``ValueError`` where goals are hidden (test splits of R2R and NDH).
    """
    views = {scan: graphs.by_name(scan) for scan in {reference.scan for reference in references}}
    present = [reference for reference in references if reference.id in results]

    def walk(reference: Reference) -> list[str]:
        return [step[0] for step in results[reference.id][PATH_FIELDS[task]]]

    if task == "r2r":
        if present and all(len(one.item["path"]) == 1 for one in present):
            raise ValueError(
                f"instruction {present[0].id} has no goal to score against (a test split); write "
                "the leaderboard's file with `prevalent submit`"
            )
        return mean_scores(
            score_path(walk(one), one.item["path"], views[one.scan].distance) for one in present
        )
    if task == "ndh":
        hidden = next((one.id for one in present if "end_panos" not in one.item), None)
        if hidden is not None:
            raise ValueError(
                f"dialog {hidden} has no goals to score against (a test split); write the "
                "leaderboard's file with `prevalent submit`"
            )
        return mean_ndh_scores(
            score_ndh(walk(one), one.item, views[one.scan].distance, path_type) for one in present
        )
    scores = mean_hanna_scores(
        score_hanna(
            results[one.id], [path[-1] for path in one.item["paths"]], views[one.scan].distance
        )
        for one in present
    )
    return scores | mean_request_scores(results[one.id] for one in present)
