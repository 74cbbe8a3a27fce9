"""Results of agents: what they answer, how they are read, checked, scored and submitted."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..metrics.navigation import (
    Distance,
    PathType,
    mean_hanna_scores,
    mean_ndh_scores,
    mean_request_scores,
    mean_scores,
    score_hanna,
    score_ndh,
    score_path,
    without_repeats,
)
from ..metrics.objects import mean_rows, score_reverie, score_soon
from ..runtime.files import write_atomically
from ..simulator.graph import Graphs, SimulatorError, load_graphs
from .datasets import READERS, family, read_walks
from .instructions import Instruction, read_split
from .records import (
    NAME,
    check_record,
    is_lines,
    place_of,
    read_json,
    read_json_lines,
    read_json_list,
)

Task = Literal["r2r", "r4r", "rxr", "rxr-en", "rxr-hi", "rxr-te", "reverie", "soon", "ndh", "hanna"]
Form = Literal["steps", "viewpoints", "nested"]
"""How a walk is written: ``[viewpoint, heading, elevation]`` a step, the leaderboards' form; one
viewpoint a step; or a list of viewpoints a decision, as agents write that go back over a map."""
ID_FIELDS: dict[str, str] = {"ndh": "inst_idx", "rxr": "instruction_id"}
ID_FIELD = "instr_id"
ID_NAMES = ("instr_id", "instruction_id", "inst_idx")
PATH_NAMES = ("trajectory", "path")
OBJECT_NAMES = ("predObjId", "pred_objid")
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
PATH_FIELDS: dict[str, str] = {"hanna": "agent_pose", "rxr": "path"}
PATH_FIELD = "trajectory"


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
    object: str | None = None
    """REVERIE: id of the object that the agent names."""
    direction: tuple[float, float] | None = None
    """SOON: heading and elevation of the object as shares of a turn."""

    @property
    def id(self) -> str:
        return str(self.key)

    @property
    def viewpoints(self) -> list[str]:
        """One an entry; turns repeat them."""
        return [step.viewpoint for step in self.steps]

    def record(self, task: Task, form: Form = "steps") -> dict[str, Any]:
        """In the form of the task's result files; ``form`` is that of the walk."""
        of, walk = family(task), self._walk(form)
        names = {"key": ID_FIELDS.get(of, ID_FIELD), "path": PATH_FIELDS.get(of, PATH_FIELD)}
        key = int(self.key) if of == "rxr" and self.id.isdecimal() else self.key
        if of == "rxr":
            walk = without_repeats(self.viewpoints) if form == "steps" else walk
        record = {names["key"]: key, names["path"]: walk, **self.rest}
        if self.object is not None:
            record["predObjId"] = int(self.object) if self.object.isdecimal() else self.object
        if self.direction is not None:
            heading, elevation = self.direction
            pointed = {"obj_heading": [heading], "obj_elevation": [elevation]}
            record[names["path"]] = {"path": walk, **pointed}
        return record

    def _walk(self, form: Form) -> Sequence[Any]:
        if form == "steps":
            return self.steps
        moves = without_repeats(self.viewpoints)
        return moves if form == "viewpoints" else [[viewpoint] for viewpoint in moves]


Results = dict[str, Result]


class Reference(NamedTuple):
    """What one result is held against."""

    id: str
    scan: str
    start: str
    item: Mapping[str, Any]
    """The record of the official file; of walks: ``path``, and the object of REVERIE and SOON."""
    text: str = ""
    """What is asked for, for people."""


def reference_of(instruction: Instruction) -> Reference:
    """What a walk that follows ``instruction`` is held against."""
    one, item = instruction, {"path": instruction.path, **instruction.item}
    return Reference(one.id, one.scan, one.path[0], item, one.text)


def read_references(data_dir: Path, task: Task, split: str) -> list[Reference]:
    """What a complete result file of ``task`` and ``split`` answers, in file order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an item lacks a field, or two have one id.
    """
    if task in READERS:
        walks = read_walks(data_dir, task, split)
        return check_ids([reference_of(one) for one in walks], split)
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
        where = place_of(item, path, number)
        check_record(item, TASK_FIELDS[task], where)
        if task == "ndh":
            check_record(item["start_pano"], {"pano": str}, f"{where}: 'start_pano'")
            check_record(item, {name: [str] for name in NDH_PATHS if name in item}, where)
            start, turns = item["start_pano"]["pano"], item.get("dialog_history", [])
            check_record({"dialog_history": turns}, {"dialog_history": [dict]}, where)
            said = " ".join(f"{turn.get('role')}: {turn.get('message')}" for turn in turns)
            found.append(Reference(str(item["inst_idx"]), item["scan"], start, item, said))
            continue
        if not item["paths"] or not all(item["paths"]):
            raise ValueError(f"{where} has no path to a goal")
        found += [
            Reference(f"{item['path_id']}_{j}", item["scan"], item["paths"][0][0], item, text)
            for j, text in enumerate(item["instructions"])
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


def open_results(
    path: Path, references: Iterable[Reference], task: Task, *, strict: bool = False
) -> Results:
    """Results of a file under the ids of ``references``; see `read_results`.

    RxR's ``PATHID_INSTRUCTIONID`` and SOON's submissions, which tell several walks of an item from
    each other by their starts, are brought to the ids that the data have here.
    """
    results, known = read_results(path, task, strict=strict), list(references)
    ids = {reference.id for reference in known}
    if family(task) == "rxr":
        named = {name: name if name in ids else name.rpartition("_")[2] for name in results}
    elif task == "soon":
        starts = {f"{one.item['source']}@{one.start}": one.id for one in reversed(known)}
        named = {name: starts.get(name, name) for name in results}
    else:
        return results
    twice = next((name for name, count in Counter(named.values()).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{path}: instruction {twice!r} has several results")
    return {named[name]: replace(one, key=named[name]) for name, one in results.items()}


class Answers(NamedTuple):
    """A file of results, and what it answers."""

    results: Results
    references: list[Reference]
    graphs: Graphs


def scans_of(references: Iterable[Reference], split: str) -> list[str]:
    """The scans of ``references``; ``ValueError`` where the split has none."""
    scans = sorted({reference.scan for reference in references})
    if not scans:
        raise ValueError(f"the split {split!r} is empty; give another")
    return scans


def open_answers(
    path: Path, data_dir: Path, task: Task, split: str, *, strict: bool = False
) -> Answers:
    """The results of ``path``, the references of ``split`` and the graphs of its scans.

    Raises as `read_references` and `read_results` do.
    """
    references = read_references(data_dir, task, split)
    scans = scans_of(references, split)
    results = open_results(path, references, task, strict=strict)
    return Answers(results, references, load_graphs(data_dir / "connectivity", scans))


def read_results(path: Path, task: Task, *, strict: bool = False) -> Results:
    """Results of a file by id; ``ValueError`` names file, record and step of the first bad one.

    The file is a list of records, records or walks by id, or JSON lines; ``.gz`` is unpacked. A
    walk is written in any `Form`; those without angles get level ones, which no score depends on.
    ``strict`` refuses what JSON does not have (NaN, a key twice), as leaderboards do.
    """
    return _collect(_records(path, task, strict), task)


def _records(path: Path, task: Task, strict: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Place in the file, for complaints, and every record."""
    cure = _cure(path)
    if is_lines(path):
        yield from read_json_lines(path, cure, strict=strict)
        return
    content = read_json(path, cure, strict=strict)
    if isinstance(content, dict) and content and all(map(_is_told, content.values())):
        for name, value in content.items():
            record = value if isinstance(value, dict) else {PATH_FIELD: value}
            yield (
                f"{path}: record {name!r}",
                {ID_FIELDS.get(family(task), ID_FIELD): name, **record},
            )
        return
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise ValueError(f"{path} must hold a list of records; {cure}")
    for number, record in enumerate(content):
        yield f"{path}: record {number}", record


def _cure(path: Path) -> str:
    """What to give in the place of ``path``; of a run, what it has walked."""
    kept = sorted(path.glob("results_*.json")) if path.is_dir() else []
    return f"name a file of results, such as {kept[0]}" if kept else "name a file of results"


def _is_told(value: Any) -> bool:
    """Whether ``value`` can be what a file tells of one id."""
    return isinstance(value, list) or (isinstance(value, dict) and PATH_FIELD in value)


def to_results(records: Iterable[Mapping[str, Any]], task: Task, origin: str = "record") -> Results:
    """Records in the leaderboard's form as results by id.

    Args:
        records: of a file, or of an agent.
        task: decides the fields.
        origin: what stands before the number of a record in a complaint.

    Raises:
        ValueError: a record lacks a field or is there twice, or a step is none.
    """
    return _collect(((f"{origin} {number}", one) for number, one in enumerate(records)), task)


def _collect(records: Iterable[tuple[str, Mapping[str, Any]]], task: Task) -> Results:
    results: Results = {}
    for where, record in records:
        for result in _to_result(record, task, where):
            if result.id in results:
                raise ValueError(f"{where}: instruction {result.id!r} occurs twice")
            results[result.id] = result
    return results


def _to_result(record: Mapping[str, Any], task: Task, origin: str) -> Iterator[Result]:
    """The result of a record; several where SOON's walks of an item stand in one."""
    of = family(task)
    key, path = ID_FIELDS.get(of, ID_FIELD), PATH_FIELDS.get(of, PATH_FIELD)
    if task in READERS:  # other code names the fields otherwise
        key = next((name for name in (key, *ID_NAMES) if name in record), key)
        path = next((name for name in (path, *PATH_NAMES) if name in record), path)
    told = record.get(path)
    several = task == "soon" and _are_pointed(told)
    walks: list[Any] = told if several else [told]  # type: ignore[assignment]
    for number, walk in enumerate(walks):
        pointed = walk if task in READERS and isinstance(walk, dict) else {}
        where = origin if len(walks) == 1 else f"{origin}: walk {number}"
        check_record({**record, path: pointed.get("path", walk)}, {key: NAME, path: list}, where)
        steps = tuple(_steps(pointed.get("path", walk), path, where))
        if not steps:
            raise ValueError(
                f"{where} must list the steps of {path!r}, the start at least; it is empty"
            )
        rest = {name: value for name, value in record.items() if name not in (key, path)}
        if task == "hanna":
            _check_requests(rest, len(steps), where)
        yield Result(
            f"{record[key]}@{steps[0].viewpoint}" if several else record[key],
            steps,
            {name: value for name, value in rest.items() if name not in OBJECT_NAMES},
            _object(rest, where) if task == "reverie" else None,
            _direction(pointed, where),
        )


def _are_pointed(walks: Any) -> bool:
    return isinstance(walks, list) and bool(walks) and all(isinstance(w, dict) for w in walks)


def _steps(walk: Sequence[Any], name: str, origin: str) -> Iterator[Step]:
    """Steps of a walk in any `Form`, which its first step decides."""
    form: Form = next((kind for kind, fits in _FORMS.items() if walk and fits(walk[0])), "steps")
    for place, step in enumerate(walk):
        if not _FORMS[form](step):
            raise ValueError(
                f"{origin}: step {place} of {name!r} must be {_TOLD[form]}{repr(step)[:80]}"
            )
        if form == "steps":
            yield Step(*step)
        else:
            yield from (Step(one, 0.0, 0.0) for one in ([step] if form == "viewpoints" else step))


def _object(rest: Mapping[str, Any], origin: str) -> str | None:
    value = next((rest[name] for name in OBJECT_NAMES if rest.get(name) is not None), None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, NAME):
        raise ValueError(f"{origin}: 'predObjId' must be the id of an object, not {value!r}")
    return str(value)


def _direction(pointed: Mapping[str, Any], origin: str) -> tuple[float, float] | None:
    """SOON's heading and elevation of the object, each alone or the first of a list."""
    names = ("obj_heading", "obj_elevation")
    if not any(name in pointed for name in names):
        return None
    angles = []
    for name in names:
        value: Any = pointed.get(name)
        value = value[0] if isinstance(value, list) and value else value
        check_record({name: value}, {name: int | float}, origin)
        angles.append(float(value))
    return angles[0], angles[1]


def _is_step(step: Any) -> bool:
    if not isinstance(step, list | tuple) or len(step) != 3 or not isinstance(step[0], str):
        return False
    return all(
        isinstance(one, int | float) and not isinstance(one, bool) and abs(one) < MOST_RADIANS
        for one in step[1:]
    )  # NaN is not less than anything


def _is_decision(step: Any) -> bool:
    return isinstance(step, list) and all(isinstance(viewpoint, str) for viewpoint in step)


_FORMS: dict[Form, Callable[[Any], bool]] = {
    "steps": _is_step,
    "viewpoints": lambda step: isinstance(step, str),
    "nested": _is_decision,
}
_TOLD: dict[Form, str] = {
    "steps": "[viewpoint, heading, elevation] with finite angles in radians, got ",
    "viewpoints": "a viewpoint, as the first one is, got ",
    "nested": "a list of viewpoints, as the first one is, got ",
}


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
    allow_missing: bool | None = None,
    allow_jumps: bool = False,
    origin: str = "",
    split: str = "",
) -> None:
    """Raise ``ValueError`` naming the first result that is missing, foreign or impossible.

    Args:
        results: by id.
        references: the split's.
        graphs: of its scans.
        origin: their file, which a complaint begins with.
        split: its name, for complaints.
        allow_missing: accept a part of the split; None where a command has no such option.
        allow_jumps: accept steps between viewpoints that share no edge.
    """
    where = f"{origin}: " if origin else ""
    name_of = f" of the split {split!r}" if split else " of the split"
    known = {reference.id: reference for reference in references}
    foreign = next((name for name in results if name not in known), None)
    if foreign is not None:
        answered = sum(name in known for name in results)
        raise ValueError(
            f"{where}result {foreign!r} belongs to no instruction{name_of} ({answered} "
            f"of {len(results)} do); give the --split that the file answers, and its --task"
        )
    for name, reference in known.items():
        if name not in results:
            if allow_missing:
                continue
            cure = "; give --allow-missing for a trial on those" if allow_missing is False else ""
            raise ValueError(
                f"{where}instruction {name!r}{name_of} has no result ({len(results)} of "
                f"{len(known)} are there){cure}"
            )
        try:
            _check_walk(name, results[name].viewpoints, reference, graphs, allow_jumps)
        except ValueError as error:
            raise ValueError(f"{where}{error}") from None


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
    """All that is known of the results (atomic), walks of every data set as of Room-to-Room."""
    records = [result.record("r2r" if task in READERS else task) for result in results.values()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(records, allow_nan=False) + "\n")


def write_submission(
    path: Path,
    results: Mapping[str, Result],
    task: Task,
    *,
    form: Form = "steps",
    references: Iterable[Reference] = (),
) -> None:
    """The leaderboard's form: id and steps, sorted keys, indent 4, strict JSON (atomic).

    Args:
        path: a name that ends in ``.jsonl`` gets one record a line, in ``.gz`` a packed file.
        results: by id.
        task: decides the fields.
        form: of the walks; ``steps`` is the leaderboard's, where RxR's has viewpoints.
        references: of SOON, whose walks of one item stand in one record.
    """
    plain = [replace(result, rest={}) for result in results.values()]
    records = [result.record(task, form) for result in plain]
    if task == "soon":
        records = _by_source(records, references)
    if is_lines(path):
        text = "".join(json.dumps(r, sort_keys=True, allow_nan=False) + "\n" for r in records)
    else:
        text = json.dumps(records, sort_keys=True, indent=4, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = path.suffix == ".gz"
    write_atomically(path, gzip.compress(text.encode(), mtime=0) if packed else text)


def _by_source(
    records: Iterable[Mapping[str, Any]], references: Iterable[Reference]
) -> list[dict[str, Any]]:
    """SOON's records, the walks of one item in one list."""
    sources = {reference.id: reference.item["source"] for reference in references}
    walks: dict[str, list[Any]] = {}
    for record in records:
        walk = record[PATH_FIELD]
        walk = walk if isinstance(walk, dict) else {"path": walk}
        name = str(record[ID_FIELD])
        walks.setdefault(sources.get(name, name), []).append(walk)
    return [{ID_FIELD: name, PATH_FIELD: found} for name, found in walks.items()]


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
    """A path of the start alone, or none; an object without a place."""
    if task == "ndh":
        return not all(item.get(name) for name in NDH_PATHS)
    if task in ("reverie", "soon"):
        return not item.get("goals" if task == "reverie" else "targets")
    return not all(item["paths"]) if task == "hanna" else len(item["path"]) < 2


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
    if task == "ndh":
        return mean_ndh_scores(
            score_ndh(results[one.id].viewpoints, one.item, views[one.scan].distance, path_type)
            for one in present
        )
    if task == "hanna":
        records = {one.id: results[one.id].record(task) for one in present}
        scores = mean_hanna_scores(
            score_hanna(
                records[one.id], [path[-1] for path in one.item["paths"]], views[one.scan].distance
            )
            for one in present
        )
        return scores | mean_request_scores(records.values())
    if task in ("reverie", "soon"):
        score = _score_reverie if task == "reverie" else _score_soon
        rows = [score(results[one.id], one.item, views[one.scan].distance) for one in present]
        return mean_rows(rows)
    return mean_scores(
        score_path(
            results[one.id].viewpoints,
            one.item["path"],
            views[one.scan].distance,
            count_turns=count_turns,
        )
        for one in present
    )


def _score_reverie(result: Result, item: Mapping[str, Any], distance: Distance) -> dict[str, float]:
    return score_reverie(
        result.viewpoints,
        item["path"],
        item["goals"],
        distance,
        chosen=result.object,
        wanted=item["object"],
    )


def _score_soon(result: Result, item: Mapping[str, Any], distance: Distance) -> dict[str, float]:
    return score_soon(
        result.viewpoints, item["path"], item["targets"], distance, direction=result.direction
    )


def score_each(
    results: Mapping[str, Result],
    references: Sequence[Reference],
    graphs: Graphs,
    task: Task = "r2r",
    **options: Any,
) -> dict[str, dict[str, float]]:
    """Scores of every episode by id: those of `score_results`, which takes the same arguments.

    A score that an episode does not have, such as HANNA's of requests, is left out there.
    """
    return {
        one.id: score_results({one.id: results[one.id]}, [one], graphs, task, **options)
        for one in references
        if one.id in results
    }
