"""``prevalent evaluate``, ``compare``, ``check``, ``submit``, ``baseline``: walk, score, write."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast, get_args

import numpy as np
import tyro

from .agents.search import Mixture
from .agents.simple import SimpleAgent, hanna_results, ndh_results, r2r_results
from .config import default_data_dir
from .data.datasets import READERS, WalkData, family, read_walks
from .data.feature_check import Finding, check_features
from .data.ndh import path_of
from .data.results import (
    Answers,
    Form,
    Reference,
    Results,
    Task,
    check_goals,
    check_results,
    hides_goals,
    open_answers,
    open_results,
    read_references,
    scans_of,
    score_each,
    score_results,
    to_results,
    write_results,
    write_submission,
)
from .environments.navigation import Episode
from .metrics.bootstrap import Difference, paired_bootstrap
from .metrics.navigation import PathType
from .released.snapshots import open_snapshot
from .runs import open_run
from .runtime.command import parse
from .runtime.evaluation import Provenance, write_evaluation
from .runtime.files import write_atomically
from .runtime.options import at_least, option
from .runtime.run_folder import Run
from .simulator.graph import Graphs, load_graphs
from .tasks import graph, hanna, ndh, r2r
from .tasks.navigation import Walks, in_toy_world
from .tasks.starting import parse_and_try

LANGUAGE_SCORES = ("success_rate", "spl", "ndtw", "sdtw")
PATH_TYPE_SCORES = ("success_rate", "oracle success_rate", "spl", "nav_error")
"""What depends on whose path is right; goal progress does not."""


@dataclass(frozen=True)
class WalkConfig:
    """What is walked, by which agent and how: `evaluate` and `submit` have this in common."""

    results: Path | None = None
    """File of results: the leaderboard's form or that of other code, JSON, JSON lines, ``.gz``."""
    run_dir: Path | None = None
    """Run of `prevalent train-r2r`, `train-graph`, `train-ndh` or `train-hanna`, whose agent shall
    walk."""
    split: str = "val_unseen"
    """Split that the results answer or the agent walks."""
    task: Task | None = None
    """Of a file: what it answers, r2r if not given. A run knows its own; one of train-r2r may walk
    another data set of walks."""
    data_dir: Path | None = None
    """Folder with connectivity/ and the data set's (default: the run's, $PREVALENT_DATA)."""

    snapshot: str | None = None
    """Which agent of the run: best_val_unseen if not given, or last where there is none yet."""
    step: int | None = None
    """The agent of this checkpoint instead."""
    beam: int = 0
    """Paths that a state-factored search collects before one is chosen; 0 walks greedily."""
    speaker: Path | None = None
    """Speaker that rescores those paths: a run, a snapshot, or a file of the authors' code."""
    alpha: float = 0.5
    """Share of the speaker's score."""
    batch_size: int = 100
    """Episodes that walk together."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""

    def __post_init__(self) -> None:
        if (self.results is None) == (self.run_dir is None):
            raise ValueError("give either --results FILE or --run-dir RUN")
        if self.results is not None:
            for name in ("step", "snapshot", "beam", "speaker"):
                if getattr(self, name):
                    raise ValueError(
                        f"--{name} is of the agent of a run; drop it, or give --run-dir RUN"
                    )
        if self.step is not None and self.snapshot is not None:
            raise ValueError("give --step or --snapshot, not both: each names weights of the run")
        at_least(self, beam=0, batch_size=1)
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"--alpha must be in [0, 1], got {self.alpha}")
        if self.speaker is None and self.alpha != WalkConfig.alpha:
            raise ValueError(
                f"--alpha {self.alpha} weighs a speaker against the follower; add --speaker RUN, "
                "or drop it"
            )


def check_path_type(path_type: PathType, task: Task) -> None:
    """Refuse a ``--path-type`` that ``task`` does not have; the default is none."""
    if task != "ndh" and path_type != "trusted_path":
        raise ValueError(f"--path-type is of ndh, the walks are of {task}; drop it")


def _spare(option: str, output: Path | None, *read: Path | None) -> None:
    """Refuse an ``output`` that is one of the files to ``read``, which would be lost."""
    for source in read:
        if output is not None and source is not None and output.resolve() == source.resolve():
            raise ValueError(
                f"{option} {output} is the file that is read, and would be written over; give "
                "another name"
            )


@dataclass(frozen=True)
class EvaluateConfig(WalkConfig):
    """Score a result file, or walk a split with the agent of a run and score that.

    A run gets ``results_SPLIT.json`` and ``evaluation_SPLIT.json``.
    """

    path_type: PathType | None = None
    """NDH: whose path is right (planner = Oracle, player = Navigator, trusted = Mixed); if not
    given, the one that the run has learned, and ``trusted_path`` for a file."""
    allow_missing: bool = False
    """Score a part of the split."""
    allow_jumps: bool = False
    """Accept steps between viewpoints that share no edge."""
    count_turns: bool = False
    """R2R: nDTW and SDTW take a viewpoint again for every turn that is made there."""
    row: str = ""
    """Row of the published tables to stand beside in the report."""
    output: Path | None = None
    """Also write the scores to this JSON file (of a run: always, ``evaluation_SPLIT.json``)."""
    tune_alpha: bool = False
    """Try 101 shares and four ways of averaging and keep the one with the most successes."""
    one_text: bool = False
    """An agent that reads several instructions of a path reads one of them only."""
    per_instruction: Path | None = None
    """Also write the scores of every episode: ``.csv``, or one JSON record a line (``.jsonl``)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        path = self.per_instruction
        if path is not None and path.suffix not in (".csv", ".jsonl"):
            raise ValueError(f"--per-instruction {path} must end in .csv or .jsonl")
        _spare("--per-instruction", path, self.results)
        _spare("--output", self.output, self.results)
        for name in ("tune_alpha", "one_text"):
            if self.results is not None and getattr(self, name):
                raise ValueError(
                    f"{option(name)} is of the agent of a run; drop it, or give --run-dir RUN"
                )
        if self.tune_alpha and self.alpha != WalkConfig.alpha:
            raise ValueError(f"--tune-alpha tries all shares; drop it, or --alpha {self.alpha}")

    def check_task(self, task: Task) -> None:
        """Raise ``ValueError`` naming an option that the scores of ``task`` do not depend on."""
        if self.path_type is not None and task != "ndh":
            raise ValueError(f"--path-type is of ndh, the scores are of {task}; drop it")
        if self.count_turns and task in ("ndh", "hanna", "reverie", "soon"):
            raise ValueError(f"--count-turns is of nDTW, which {task} does not have; drop it")


@dataclass(frozen=True)
class SubmitConfig(WalkConfig):
    """Check that every instruction has one possible trajectory, then write the file."""

    split: str = "test"
    """Split that the leaderboard asks for."""
    output: Path | None = None
    """Where to write; ``submit_SPLIT.json`` beside the results or in the run if not given (RxR:
    ``.jsonl``). ``.gz`` behind packs the file."""
    form: Form = "steps"
    """Of the walks: ``steps`` is the leaderboards', ``viewpoints`` and ``nested`` other code's."""
    forbid_revisits: bool = True
    """Greedy walks of Room-to-Room do not return to a place, as the authors' submissions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task == "hanna":
            raise ValueError("--task hanna has no leaderboard; give r2r, ndh or another")


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent evaluate --run-dir runs/r2r/envdrop --split val_seen --beam 20``."""
    config = parse_and_try(
        lambda words: parse(EvaluateConfig, words, "prevalent evaluate"), try_walk, argv
    )
    scores = evaluate(config)
    width = max(map(len, scores))
    print("\n".join(f"{name:<{width}}  {value:.4f}" for name, value in scores.items()))


def try_walk(config: WalkConfig) -> None:
    """Raise what `evaluate` and `submit` are refused for before anything is walked or scored."""
    if config.run_dir is None:
        assert config.results is not None
        task, data_dir = config.task or "r2r", config.data_dir or default_data_dir()
        if isinstance(config, EvaluateConfig):
            config.check_task(task)
            scorable_answers(config.results, data_dir, task, config)
        else:
            answers = open_answers(config.results, data_dir, task, config.split)
            check_results(*answers, origin=str(config.results), split=config.split)
        return
    kinds = ("r2r", "graph", "ndh", *(("hanna",) if isinstance(config, EvaluateConfig) else ()))
    run = open_run(config.run_dir, *kinds)
    task = task_of_run(config, run)
    references = read_references(data_of(config, run), task, config.split)
    check_of_run(config, run)
    if isinstance(config, EvaluateConfig):
        config.check_task(task)
        check_goals(references, task, config.split)
    open_snapshot(run.folder, run.kind, config.snapshot, config.step)


def scorable_answers(
    path: Path, data_dir: Path, task: Task, config: EvaluateConfig | CompareConfig
) -> Answers:
    """The results of ``path``, checked against the references of the split, which have goals."""
    answers = open_answers(path, data_dir, task, config.split)
    check_goals(answers.references, task, config.split)
    check_results(
        *answers,
        allow_missing=config.allow_missing,
        allow_jumps=config.allow_jumps,
        origin=str(path),
        split=config.split,
    )
    return answers


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Scores of ``config.results`` or of the run's agent, written down for the report.

    See the metrics for names and units.
    """
    if config.run_dir is not None:
        return evaluate_run(config, open_run(config.run_dir, "r2r", "graph", "ndh", "hanna"))
    assert config.results is not None
    task, data_dir = config.task or "r2r", config.data_dir or default_data_dir()
    config.check_task(task)
    answers = scorable_answers(config.results, data_dir, task, config)
    results, references, graphs = answers
    path_type = config.path_type or "trusted_path"
    scores = score_results(
        results, references, graphs, task, path_type=path_type, count_turns=config.count_turns
    )
    about = Provenance(
        task, config.split, len(results), len(references) - len(results),
        trial=len(results) < len(references) or "@" in config.split,
        settings=settings_of(config),
    )  # fmt: skip
    write_each(config, answers, task, path_type)
    write_scores(config, config.output, scores, about, path_type)
    return scores


def task_of_run(config: WalkConfig, run: Run) -> Task:
    """What the agent of ``run`` walks: its own, or the data set of walks that ``--task`` names."""
    if run.kind in ("r2r", "graph") and (config.task is None or config.task in READERS):
        return cast(Task, config.task or run.config.data)
    if config.task not in (None, run.kind):
        raise ValueError(
            f"--task {config.task}: {run.folder} is a run of kind {run.kind!r}; drop --task"
        )
    return cast(Task, run.kind)


def evaluate_run(config: EvaluateConfig, run: Run) -> dict[str, float]:
    """Walk ``split`` with the agent of ``run``, keep the walks, score them."""
    task = task_of_run(config, run)
    config.check_task(task)
    check_goals(read_references(data_of(config, run), task, config.split), task, config.split)
    walks = walk(config, run)
    if walks.chosen_by:
        print(f"chosen by {walks.chosen_by}")
    results, suffix = walks.results, suffix_of(config)
    if run.kind == "r2r" and task != run.config.data:
        suffix = f"{task}_{suffix}"
    path = run.folder / f"results_{suffix}.json"
    path_type: PathType = "trusted_path"
    if run.kind == "ndh":
        path_type = config.path_type or run.config.path_type
    scores: dict[str, float] = {}
    for one in get_args(PathType) if run.kind == "ndh" else (path_type,):
        row = score_results(
            results, walks.references, walks.graphs, task,
            path_type=one, count_turns=config.count_turns,
        )  # fmt: skip
        if run.kind == "ndh":
            cells = (f"{name} {row[name]:.4f}" for name in PATH_TYPE_SCORES)
            print(f"{one:<13} " + "  ".join(cells))
        scores = row if one == path_type else scores
    write_results(path, results, task)
    about = Provenance(
        task, config.split, len(results), walks.left_out,
        trial="@" in config.split or walks.left_out > 0,
        step=walks.step, seed=run.config.seed, precision=run.config.precision,
        settings={"beam": config.beam, **searched_by(config, walks), **settings_of(config)},
    )  # fmt: skip
    output = config.output or run.folder / f"evaluation_{suffix}.json"
    answers = Answers(results, list(walks.references), walks.graphs)
    write_each(config, answers, task, path_type)
    write_scores(config, output, scores, about, path_type, task)
    return scores


def searched_by(config: WalkConfig, walks: Walks) -> dict[str, str]:
    """Whose scores chose among the paths of a search, and in what mixture."""
    if config.speaker is None:
        return {}
    return {"speaker": str(config.speaker), "chosen_by": walks.chosen_by}


def write_each(config: EvaluateConfig, answers: Answers, task: Task, path_type: PathType) -> None:
    """Print the scores of every language, and write those of every episode where that is asked."""
    results, references, graphs = answers
    by_language: dict[str, list[Reference]] = {}
    for one in references:
        if "language" in one.item:
            by_language.setdefault(one.item["language"], []).append(one)
    for language, some in sorted(by_language.items()):
        scores = score_results(results, some, graphs, task, count_turns=config.count_turns)
        cells = (f"{name} {scores[name]:.4f}" for name in LANGUAGE_SCORES)
        print(f"{language:<6} {len(some):>6} instructions  " + "  ".join(cells))
    if config.per_instruction is None:
        return
    options: dict[str, Any] = {"path_type": path_type, "count_turns": config.count_turns}
    each = score_each(results, references, graphs, task, **options)
    about = {one.id: {"id": one.id, "scan": one.scan} for one in references}
    for one in references:
        if "language" in one.item:
            about[one.id]["language"] = one.item["language"]
    write_rows(config.per_instruction, [{**about[name], **row} for name, row in each.items()])


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Records as a table: one a line in JSON, or comma-separated with a line of names (atomic)."""
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    else:
        names = list(dict.fromkeys(name for row in rows for name in row))
        file = io.StringIO()
        table = csv.DictWriter(file, names, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        text = file.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)


def check_of_run(config: WalkConfig, run: Run) -> None:
    """Raise ``ValueError`` naming an option that the agent of ``run`` does not use."""
    tuned, one = (getattr(config, name, False) for name in ("tune_alpha", "one_text"))
    if run.kind != "r2r" and (config.beam or config.speaker or tuned):
        raise ValueError(f"--beam searches with agents of R2R only, {run.folder} is {run.kind}")
    if one and (run.kind != "r2r" or run.config.model.num_texts == 1):
        raise ValueError(f"--one-text: the agent of {run.folder} reads one text in any case")


def data_of(config: WalkConfig, run: Run) -> Path:
    """The folder that the split of a run is read from."""
    found: Path = config.data_dir or in_toy_world(run.config, run.folder / "world").data_dir
    return found


def settings_of(config: EvaluateConfig) -> dict[str, Any]:
    """What the scores depend on beside the agent and the split, where it is not as published."""
    names = ("count_turns", "allow_jumps", "one_text", "tune_alpha")
    return {name: True for name in names if getattr(config, name)}


def walk(config: WalkConfig, run: Run) -> Walks:
    """Walk ``split`` with the agent of ``run``, which decides on the task."""
    check_of_run(config, run)
    options: dict[str, Any] = {"snapshot": config.snapshot, "step": config.step}
    options |= {"data_dir": config.data_dir, "device": config.device}
    if run.kind == "ndh":
        return ndh.walk_agent(ndh.open_agent(run, config.split, **options), config.batch_size)
    if run.kind == "hanna":
        agent = hanna.open_agent(run, config.split, **options)
        return hanna.walk_agent(agent, config.split, config.batch_size)
    options["data"] = cast(WalkData, task_of_run(config, run))
    if run.kind == "graph":
        return graph.walk_agent(graph.open_agent(run, config.split, **options), config.batch_size)
    how = r2r.Walking(config.batch_size, config.beam, config.speaker, Mixture(config.alpha))
    if isinstance(config, SubmitConfig):
        how = how._replace(forbid_revisits=config.forbid_revisits)
        return r2r.walk_agent(r2r.open_agent(run, config.split, **options), how)
    assert isinstance(config, EvaluateConfig)
    follower = r2r.open_agent(run, config.split, **options, alone=config.one_text)
    return r2r.walk_agent(follower, how._replace(tune=config.tune_alpha))


def suffix_of(config: EvaluateConfig) -> str:
    """Split and search, for file names."""
    split = Path(config.split).stem
    return f"{split}_beam{config.beam}" if config.beam else split


def write_scores(
    config: EvaluateConfig,
    path: Path | None,
    scores: Mapping[str, float],
    about: Provenance,
    path_type: PathType,
    task: Task | None = None,
) -> None:
    """Record the scores with what they belong to, for ``prevalent report``."""
    if path is None:
        return
    record = {
        "task": task or about.kind,
        "split": config.split,
        "row": config.row,
        "path_type": path_type if about.kind == "ndh" else None,
        "scores": dict(scores),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_evaluation(path, record, about)


COMPARED: dict[str, tuple[str, ...]] = {
    "ndh": ("dist_to_end_reduction", "success_rate", "spl"),
    "hanna": ("success_rate", "spl", "error"),
    "reverie": ("success_rate", "spl", "rgs", "rgspl"),
    "soon": ("success_rate", "spl", "found_spl"),
}
COMPARED_WALKS = ("success_rate", "spl", "ndtw")


@dataclass(frozen=True)
class CompareConfig:
    """Whether two agents that walked the same split differ: a paired bootstrap of their scores."""

    a: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="A")]
    """File of results of agent A, in any form that `prevalent evaluate` reads."""
    b: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="B")]
    """That of agent B."""
    split: str = "val_unseen"
    """Split that both answer."""
    task: Task = "r2r"
    """What they answer."""
    data_dir: Path = field(default_factory=default_data_dir)
    """Folder with connectivity/ and that of the data set."""
    scores: tuple[str, ...] = ()
    """Scores to compare, by the names that `prevalent evaluate` prints; the usual ones if none."""
    unit: Literal["path", "instruction", "scan"] = "path"
    """What is drawn as a whole: the instructions of a path are walked alike, and so are houses."""
    samples: int = 10_000
    """Samples of the bootstrap."""
    seed: int = 0
    """Of the draws."""
    path_type: PathType = "trusted_path"
    """NDH: whose path is right."""
    allow_missing: bool = False
    """Compare what both files answer, where that is a part of the split."""
    allow_jumps: bool = False
    """Accept steps between viewpoints that share no edge."""
    output: Path | None = None
    """Also write the table to this JSON file."""

    def __post_init__(self) -> None:
        at_least(self, samples=100)
        _spare("--output", self.output, self.a, self.b)
        check_path_type(self.path_type, self.task)


def main_compare(argv: Sequence[str]) -> None:
    """Run ``prevalent compare a.json b.json --split val_unseen``."""
    config = parse_and_try(
        lambda words: parse(CompareConfig, words, "prevalent compare"), compare, argv
    )
    count, table = compare(config)
    print(
        f"{config.task} {config.split}: {count} episodes, {config.samples} samples by {config.unit}"
    )
    width = max(map(len, table))
    print(f"{'':<{width}}  {'A':>9}  {'B':>9}  {'A - B':>9}  {'95 % interval':>20}  {'p':>7}")
    for name, one in table.items():
        interval = f"[{one.low:.4f}, {one.high:.4f}]"
        cells = (
            f"{one.a:>9.4f}  {one.b:>9.4f}  {one.difference:>9.4f}  {interval:>20}  {one.p:>7.4f}"
        )
        print(f"{name:<{width}}  {cells}")
    if config.output is not None:
        differences = {name: one._asdict() for name, one in table.items()}
        record = {
            "a": str(config.a),
            "b": str(config.b),
            "task": config.task,
            "split": config.split,
            "path_type": config.path_type if config.task == "ndh" else None,
            "allow_jumps": config.allow_jumps,
            "episodes": count,
            "unit": config.unit,
            "samples": config.samples,
            "seed": config.seed,
            "scores": differences,
        }
        config.output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(config.output, json.dumps(record, indent=2, allow_nan=False) + "\n")


def compare(config: CompareConfig) -> tuple[int, dict[str, Difference]]:
    """The number of episodes that both answer, and the difference of every score."""
    rows: list[dict[str, dict[str, float]]] = []
    for path in (config.a, config.b):
        answers = scorable_answers(path, config.data_dir, config.task, config)
        references = answers.references
        rows.append(score_each(*answers, config.task, path_type=config.path_type))
    both = [one for one in references if one.id in rows[0] and one.id in rows[1]]
    if not both:
        raise ValueError(f"{config.a} and {config.b} answer no instruction of {config.split} both")
    groups = [unit_of(one, config.unit) for one in both]
    first, second = ([row[one.id] for one in both] for row in rows)
    known = [name for name in first[0] if all(name in row for row in (*first, *second))]
    table = {}
    for name in config.scores or COMPARED.get(config.task, COMPARED_WALKS):
        if name not in known:
            raise ValueError(f"--scores {name}: choose of {', '.join(known)}")
        pair = ([row[name] for row in first], [row[name] for row in second])
        table[name] = paired_bootstrap(*pair, groups, samples=config.samples, seed=config.seed)
    return len(both), table


def unit_of(reference: Reference, unit: str) -> tuple[Any, ...]:
    """What an episode is drawn together with."""
    if unit == "scan":
        return (reference.scan,)
    if unit == "path" and "path" in reference.item:
        return (reference.scan, *reference.item["path"])
    if unit == "path" and "path_id" in reference.item:
        return (reference.item["path_id"],)
    return (reference.id,)


@dataclass(frozen=True)
class CheckConfig:
    """Read a feature file whole, or results as strictly as a leaderboard does.

    The exit status is 0 where nothing is wrong.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Features (.tsv, .npy, .hdf5, .h5) or results (.json, .jsonl, also with .gz behind)."""
    data_dir: Path = field(default_factory=default_data_dir)
    """Folder with connectivity/, whose viewpoints need features, and with the data of results."""
    scans: tuple[str, ...] = ()
    """Features: the scans that matter, all of connectivity/ if none is given."""
    feature_columns: str = ""
    """Features: look at the columns FIRST:END alone."""
    views: int = 36
    """Features: views of a panorama."""
    task: Task = "r2r"
    """Results: what they answer."""
    split: str = "test"
    """Results: the split that they must answer whole."""

    def __post_init__(self) -> None:
        at_least(self, views=1)


def main_check(argv: Sequence[str]) -> None:
    """Run ``prevalent check features/clip.hdf5`` or ``prevalent check submit_test.json``."""
    config = parse(CheckConfig, argv, "prevalent check")
    if config.file.name.removesuffix(".gz").endswith((".json", ".jsonl")):
        answers = open_answers(config.file, config.data_dir, config.task, config.split, strict=True)
        check_results(*answers, origin=str(config.file), split=config.split)
        print(
            f"{config.file}: strict JSON, {len(answers.results):,} possible walks that answer all "
            f"of {config.task} {config.split}"
        )
        return
    folder = config.data_dir / "connectivity"
    graphs = load_graphs(folder) if folder.is_dir() else None
    if graphs is None and config.scans:
        raise FileNotFoundError(f"--scans needs the graphs of {folder}, which is not there")
    findings = check_features(
        config.file,
        graphs,
        scans=config.scans,
        columns=config.feature_columns,
        num_views=config.views,
    )
    print("\n".join(describe_findings(findings)))
    wrong = [one.what for one in findings if one.problem]
    if wrong:
        raise ValueError(f"feature file {config.file} has problems: {', '.join(wrong)}")


def describe_findings(findings: Sequence[Finding]) -> list[str]:
    """Lines of a table, what is wrong at their ends."""
    widths = [max(len(one[i]) for one in findings) for i in (0, 1)]
    return [
        f"{one.what:<{widths[0]}}  {one.found:<{widths[1]}}  {one.problem or 'ok'}".rstrip()
        for one in findings
    ]


def main_submit(argv: Sequence[str]) -> None:
    """Run ``prevalent submit --run-dir runs/r2r/envdrop --split test``."""
    config = parse_and_try(
        lambda words: parse(SubmitConfig, words, "prevalent submit"), try_walk, argv
    )
    print(f"wrote {submit(config)}")


def submit(config: SubmitConfig) -> Path:
    """Validate and write; raises ``ValueError`` naming the first offender and writes nothing."""
    task: Task
    results: Results
    if config.run_dir is not None:
        run = open_run(config.run_dir, "r2r", "graph", "ndh")
        task, folder = task_of_run(config, run), config.run_dir
        references = read_references(data_of(config, run), task, config.split)
        walks = walk(config, run)
        results, graphs = walks.results, walks.graphs
    else:
        assert config.results is not None
        task, folder = config.task or "r2r", config.results.parent
        data_dir = config.data_dir or default_data_dir()
        results, references, graphs = open_answers(config.results, data_dir, task, config.split)
    origin = "" if config.results is None else str(config.results)
    check_results(results, references, graphs, origin=origin, split=config.split)
    end = "jsonl" if family(task) == "rxr" else "json"
    output = config.output or folder / f"submit_{Path(config.split).stem}.{end}"
    _spare("--output", output, config.results)
    write_submission(output, results, task, form=config.form, references=references)
    check_results(open_results(output, references, task, strict=True), references, graphs)
    return output


@dataclass(frozen=True)
class BaselineConfig:
    """Walk a split without learning."""

    agent: SimpleAgent = "random"
    """random, stop, forward or shortest."""
    split: str = "val_unseen"
    """Split to walk."""
    task: Task = "r2r"
    """Data set of walks, Navigation from Dialog History, or HANNA."""
    path_type: PathType = "trusted_path"
    """NDH: whose path the shortest agent follows to its end."""
    data_dir: Path = field(default_factory=default_data_dir)
    """Folder with connectivity/ and that of the data set."""
    output: Path | None = None
    """JSON file for the first seed's results, in the form of the task's leaderboard."""
    seed: int = 0
    """First seed of the random agent."""
    seeds: int = 1
    """Number of seeds; the scores are printed as mean [least, greatest]."""

    def __post_init__(self) -> None:
        at_least(self, seeds=1)
        check_path_type(self.path_type, self.task)
        if self.seeds > 1 and self.agent in ("stop", "shortest"):
            raise ValueError(
                f"--seeds {self.seeds}: --agent {self.agent} draws nothing; drop one of them"
            )


class ObjectSearch(NamedTuple):
    """A HANNA item as the agents take it."""

    id: str
    scan: str
    heading: float
    paths: Sequence[Sequence[str]]


def main_baseline(argv: Sequence[str]) -> None:
    """Run ``prevalent baseline --agent random --split val_seen --seeds 10``."""
    config = parse_and_try(
        lambda words: parse(BaselineConfig, words, "prevalent baseline"), try_baseline, argv
    )
    references = read_references(config.data_dir, config.task, config.split)
    scans = scans_of(references, config.split)
    graphs = load_graphs(config.data_dir / "connectivity", scans)
    hidden = hides_goals(references, config.task)
    rows = []
    for seed in range(config.seed, config.seed + config.seeds):
        walked = run_baseline(replace(config, seed=seed), references, graphs)
        results = to_results(walked, config.task)
        if config.output is not None and seed == config.seed:
            write_results(config.output, results, config.task)
        if not hidden:
            rows.append(
                score_results(results, references, graphs, config.task, path_type=config.path_type)
            )
    print(f"{config.agent}, {config.task} {config.split}: {len(references)} walks a seed")
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        print(f"{name:<26} {np.mean(values):8.4f}  [{min(values):.4f}, {max(values):.4f}]")


def check_agent(config: BaselineConfig, references: Sequence[Reference]) -> None:
    """Raise ``ValueError`` where the agent walks to goals and one is hidden."""
    hidden = hides_goals(references, config.task)
    if hidden and config.agent == "shortest":
        raise ValueError(
            f"--agent shortest walks to the goals, and {hidden} of the split {config.split!r} "
            "hides its goal (a test split); give --agent random, stop or forward, or another "
            "--split"
        )


def try_baseline(config: BaselineConfig) -> None:
    """Raise what a baseline is refused for before it walks."""
    references = read_references(config.data_dir, config.task, config.split)
    load_graphs(config.data_dir / "connectivity", scans_of(references, config.split))
    check_agent(config, references)


def run_baseline(
    config: BaselineConfig, references: Sequence[Reference], graphs: Graphs
) -> list[dict[str, Any]]:
    """Results of ``config.agent`` for ``references``; see `check_agent`."""
    check_agent(config, references)
    if config.task == "hanna":
        searches = [
            ObjectSearch(one.id, one.scan, float(one.item["heading"]), one.item["paths"])
            for one in references
        ]
        return hanna_results(config.agent, graphs, searches, seed=config.seed)
    if config.task == "ndh":
        episodes = [dialog_episode(reference, config.path_type) for reference in references]
        return ndh_results(config.agent, graphs, episodes, seed=config.seed)
    instructions = read_walks(config.data_dir, config.task, config.split)
    episodes = [Episode(one.scan, one.path, one.heading, one.id) for one in instructions]
    return r2r_results(config.agent, graphs, episodes, seed=config.seed)


def dialog_episode(reference: Reference, path_type: PathType) -> Episode:
    """The walk that an NDH item asks for; its start elevation is unusable and taken as 0."""
    heading = float(reference.item["start_pano"]["heading"])
    path = path_of(reference.item, path_type)
    return Episode(reference.scan, path, heading, reference.id)
