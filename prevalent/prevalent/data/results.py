"""Results of agents: what they answer, how they are read, checked, scored and submitted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from .instructions import expand, read_paths, read_split
from .records import NAME, check_record, read_json_list

Task = Literal["r2r", "ndh", "hanna"]
ID_FIELDS: dict[str, str] = {"r2r": "instr_id", "ndh": "inst_idx", "hanna": "instr_id"}
TASK_FIELDS: dict[str, dict[str, Any]] = {
    "ndh": {"inst_idx": NAME, "scan": str, "start_pano": dict},
    "hanna": {"path_id": NAME, "scan": str, "paths": [[str]], "instructions": [str]},
}
REQUEST_FIELDS: dict[str, Any] = {
    **{name: [int] for name in ("agent_ask", "agent_nav", "teacher_ask", "teacher_nav")},
    "instruction": [str],
    "target_viewpoints": [[str]],
}
"""What HANNA's scores read beside the steps, where it is there."""
NDH_PATHS = ("planner_path", "player_path", "end_panos")
MOST_RADIANS = 1000.0  # of a heading that was ever added up by turning
PATH_FIELDS: dict[str, str] = {"r2r": "trajectory", "ndh": "trajectory", "hanna": "agent_pose"}


class Step(NamedTuple):
    """Where an agent stood and looked."""

    viewpoint: str
    heading: float  # radians
    elevation: float  # radians


@dataclass(frozen=True)
class Result:
    """What an agent did in one episode."""

    key: int | str
    """Its id as the task's files have it."""
    steps: tuple[Step, ...]
    rest: Mapping[str, Any] = field(default_factory=dict)
    """The other fields of the record; HANNA's requests and answers."""

    @property
    def id(self) -> str:
        return str(self.key)

    @property
    def viewpoints(self) -> list[str]:
        """One an entry; turns repeat them."""
        return [step.viewpoint for step in self.steps]

    def record(self, task: Task) -> dict[str, Any]:
        """In the form of the task's result files."""
        return {ID_FIELDS[task]: self.key, PATH_FIELDS[task]: self.steps, **self.rest}


Results = dict[str, Result]


class Reference(NamedTuple):
    """What one result is held against."""

    id: str
    scan: str
    start: str
    item: Mapping[str, Any]
    """The record of the official file; R2R: with ``path`` of the instruction."""


def read_references(data_dir: Path, task: Task, split: str) -> list[Reference]:
    """What a complete result file of ``task`` and ``split`` answers, in file order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an item lacks a field, or two have one id.
    """
    if task == "r2r":
        instructions = expand(read_paths(data_dir, split), split)
        found = [Reference(i.id, i.scan, i.path[0], {"path": i.path}) for i in instructions]
        return check_ids(found, split)
    if task == "ndh":
        path, items = read_split(
            split,
            lambda name: data_dir / "ndh" / f"{name}.json",
            "fetch it with `prevalent prepare ndh`",
        )
    else:
        # The authors' names of splits also say whose routes ANNA tells (..._env_seen_anna).
        path = data_dir / task / f"hanna_{split.partition('_env_')[0]}.json"
        items = read_json_list(path, f"fetch it with `prevalent prepare {task}`")
    found = []
    for number, item in enumerate(items):
        where = f"{path}: item {number}"
        check_record(item, TASK_FIELDS[task], where)
        if task == "ndh":
            check_record(item["start_pano"], {"pano": str}, f"{where}: 'start_pano'")
            check_record(item, {name: [str] for name in NDH_PATHS if name in item}, where)
            start = item["start_pano"]["pano"]
            found.append(Reference(str(item["inst_idx"]), item["scan"], start, item))
            continue
        if not item["paths"] or not all(item["paths"]):
            raise ValueError(f"{where} has no path to a goal")
        found += [
            Reference(f"{item['path_id']}_{j}", item["scan"], item["paths"][0][0], item)
            for j in range(len(item["instructions"]))
        ]
    return check_ids(found, str(path))


def check_ids(references: Sequence[Reference], origin: str) -> list[Reference]:
    """``references``; ``ValueError`` where two have one id, as results would answer both."""
    counts = Counter(reference.id for reference in references)
    for name, count in counts.items():
        if count > 1:
            raise ValueError(
                f"{origin}: {count} instructions have the id {name!r}, so that a result cannot say "
                "which it answers; give each path (each dialog) an id of its own"
            )
    return list(references)


def read_results(path: Path, task: Task) -> Results:
    """Results of a file by id; ``ValueError`` names file, record and step of the first bad one."""
    cure = "name a file of results with --results"
    return to_results(read_json_list(path, cure), task, f"{path}: record")


def to_results(records: Iterable[Mapping[str, Any]], task: Task, origin: str = "record") -> Results:
    """Records in the leaderboard's form as results by id.

    Args:
        records: of a file, or of an agent.
        task: decides the fields.
        origin: what stands before the number of a record in a complaint.

    Raises:
        ValueError: a record lacks a field or is there twice, or a step is none.
    """
    results: Results = {}
    for number, record in enumerate(records):
        result = _to_result(record, task, f"{origin} {number}")
        if result.id in results:
            raise ValueError(f"{origin} {number}: instruction {result.id!r} occurs twice")
        results[result.id] = result
    return results


def _to_result(record: Mapping[str, Any], task: Task, origin: str) -> Result:
    key, path = ID_FIELDS[task], PATH_FIELDS[task]
    check_record(record, {key: NAME, path: list}, origin)
    if not record[path]:
        raise ValueError(
            f"{origin} must list the steps of {path!r}, the start at least; it is empty"
        )
    for place, step in enumerate(record[path]):
        if not _is_step(step):
            raise ValueError(
                f"{origin}: step {place} of {path!r} must be [viewpoint, heading, elevation] with "
                f"finite angles in radians, got {repr(step)[:80]}"
            )
    steps = tuple(Step(*step) for step in record[path])
    rest = {name: value for name, value in record.items() if name not in (key, path)}
    if task == "hanna":
        _check_requests(rest, len(steps), origin)
    return Result(record[key], steps, rest)


def _is_step(step: Any) -> bool:
    if not isinstance(step, list | tuple) or len(step) != 3 or not isinstance(step[0], str):
        return False
    return all(
        isinstance(one, int | float) and not isinstance(one, bool) and abs(one) < MOST_RADIANS
        for one in step[1:]
    )  # NaN is not less than anything


def _check_requests(rest: Mapping[str, Any], steps: int, origin: str) -> None:
    """What an agent says of its requests is as long as its walk."""
    told = {name: kind for name, kind in REQUEST_FIELDS.items() if name in rest}
    check_record(rest, told, origin)
    for name in told:
        length = steps if name in ("instruction", "target_viewpoints") else steps - 1
        if len(rest[name]) != length:
            raise ValueError(
                f"{origin}: {name!r} has {len(rest[name])} entries, its {steps} steps need {length}"
            )
    if "agent_ask" in rest or "teacher_nav" in rest:
        check_record(rest, {"agent_nav": [int]}, origin)
    if 1 in rest.get("agent_ask", ()):
        check_record(rest, {"target_viewpoints": [[str]]}, origin)
    if "teacher_nav" in rest:
        check_record(rest, {"instruction": [str]}, origin)


def check_results(
    results: Mapping[str, Result],
    references: Iterable[Reference],
    graphs: Graphs,
    *,
    allow_missing: bool = False,
    allow_jumps: bool = False,
) -> None:
    """Raise ``ValueError`` naming the first result that is missing, foreign or impossible.

    Args:
        results: by id.
        references: the split's.
        graphs: of its scans.
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
        _check_walk(name, results[name].viewpoints, reference, graphs, allow_jumps)


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


def write_results(path: Path, results: Mapping[str, Result], task: Task) -> None:
    """All that is known of the results, in the form of the task's files (atomic)."""
    records = [result.record(task) for result in results.values()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(records, allow_nan=False) + "\n")


def write_submission(path: Path, results: Mapping[str, Result], task: Task) -> None:
    """The leaderboard's form: id and steps, sorted keys, indent 4, strict JSON (atomic)."""
    records = [replace(result, rest={}).record(task) for result in results.values()]
    text = json.dumps(records, sort_keys=True, indent=4, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)


def check_goals(references: Iterable[Reference], task: Task, split: str = "") -> None:
    """Raise ``ValueError`` where goals are hidden, as in test splits, or two ids are the same."""
    of = f" of the split {split!r}" if split else ""
    references = check_ids(list(references), f"split {split!r}" if split else "the split")
    hidden = hides_goals(references, task)
    if hidden:
        what = "dialog" if task == "ndh" else "instruction"
        way = "" if task == "hanna" else "; write the leaderboard's file with `prevalent submit`"
        raise ValueError(f"{what} {hidden}{of} has no goals to score against (a test split){way}")


def hides_goals(references: Iterable[Reference], task: Task) -> str:
    """Id of the first reference that hides its goal, empty where none does."""
    return next((one.id for one in references if _hides_goal(one.item, task)), "")


def _hides_goal(item: Mapping[str, Any], task: Task) -> bool:
    """A path of the start alone, or none."""
    if task == "ndh":
        return not all(item.get(name) for name in NDH_PATHS)
    return len(item["path"]) < 2 if task == "r2r" else not all(item["paths"])


def score_results(
    results: Mapping[str, Result],
    references: Sequence[Reference],
    graphs: Graphs,
    task: Task = "r2r",
    *,
    path_type: PathType = "trusted_path",
    count_turns: bool = False,
) -> dict[str, float]:
    """Mean scores of checked results under the task's metric names.

    ``count_turns`` is that of `metrics.navigation.score_path`. Raises ``ValueError`` where goals
    are hidden (test splits of R2R and NDH).
    """
    views = {scan: graphs.by_name(scan) for scan in {reference.scan for reference in references}}
    present = [reference for reference in references if reference.id in results]
    check_goals(present, task)
    if task == "r2r":
        return mean_scores(
            score_path(
                results[one.id].viewpoints,
                one.item["path"],
                views[one.scan].distance,
                count_turns=count_turns,
            )
            for one in present
        )
    if task == "ndh":
        return mean_ndh_scores(
            score_ndh(results[one.id].viewpoints, one.item, views[one.scan].distance, path_type)
            for one in present
        )
    records = {one.id: results[one.id].record(task) for one in present}
    scores = mean_hanna_scores(
        score_hanna(
            records[one.id], [path[-1] for path in one.item["paths"]], views[one.scan].distance
        )
        for one in present
    )
    return scores | mean_request_scores(records.values())
