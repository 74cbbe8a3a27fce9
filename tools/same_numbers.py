"""Record what the smoke and demo presets compute, and say later whether a number has changed.

    python tools/same_numbers.py --record before.json
    python tools/same_numbers.py --compare before.json --only 'prevalent/r2r*'
    python tools/same_numbers.py --compare before.json --tree ../other-checkout

Every case is a real command at one thread, on data made by code. Of training, recorded are the rows
of ``metrics.jsonl``, the tensors of exported weights, the parts of the newest checkpoint, sampled
pictures and scores; then the newest checkpoint and the exported weights are deleted, the same
command is given again, and what the continued run leaves has to be the same. Of the commands that
use a run, recorded are the files that they write and the numbers that they print.

A record belongs to one machine and one version of torch: another processor rounds otherwise.
Needs torch, safetensors, numpy and pillow of the environment that runs it.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import math
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from same_numbers_cases import CASES, Case

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"optimus": "optimus", "fq-gan": "fqgan", "prevalent": "prevalent"}
BOOKKEEPING = {"aug_order", "data", "latents", "losses", "means", "order", "progress", "random"}
BOOKKEEPING |= {"style"}
"""Parts of a checkpoint that hold no weights and no state of an optimizer."""
WEIGHTS = {".safetensors", ".npz", ".pt", ".bin", ".pth"}
SHORT = 40  # characters of a number or word that is recorded as it is
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "CUDA_VISIBLE_DEVICES": "",
}


STARTER = """
import json, os, runpy, sys, traceback
import torch, torch._dynamo, torch.utils.data, tyro, tensorboardX, scipy.linalg, scipy.stats
try:
    import matplotlib.pyplot
except ImportError:
    pass
for name in json.loads(sys.argv[1]):
    __import__(name)
for line in sys.stdin:
    words, output = json.loads(line)
    child = os.fork()
    if child == 0:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(file, 1), os.dup2(file, 2)
        sys.argv = ["-m", *words[1:]]
        status = 0
        try:
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Imports what others wrote once, then runs each command in a process of its own: most of the time
of a smoke preset is the import of torch and transformers. Nothing of a project is imported before.
"""
IMPORTS = {
    "optimus": ["transformers.models.bert.modeling_bert", "transformers.models.gpt2.modeling_gpt2",
                "sklearn.linear_model"],
    "fq-gan": ["h5py", "PIL.Image"],
    "prevalent": ["transformers.models.bert.modeling_bert", "h5py", "networkx", "sacrebleu"],
}  # fmt: skip


class Surroundings:
    """Where the commands come from and where they run.

    Args:
        python: interpreter of the environment.
        tree: a checkout; ``None`` takes the packages that are installed.
        work: the folder of data and runs, one folder a project in it.
    """

    def __init__(self, python: str, tree: Path | None, work: Path) -> None:
        self.python, self.tree, self.work = python, tree, work
        self._starters: dict[str, subprocess.Popen[str]] = {}

    def run(self, project: str, words: Sequence[str]) -> str:
        """Run ``python -m PACKAGE WORDS``; the last lines that it wrote, "" if all went well."""
        starter = self._starters.get(project) or self._start(project)
        output = self.work / project / "output.txt"
        assert starter.stdin is not None
        assert starter.stdout is not None
        starter.stdin.write(json.dumps([[PACKAGES[project], *words], str(output)]) + "\n")
        starter.stdin.flush()
        status = starter.stdout.readline().strip()
        if status == "0":
            return ""
        lines = output.read_text().strip().splitlines() if output.exists() else []
        return "\n".join(lines[-4:]) or f"status {status}"

    def _start(self, project: str) -> subprocess.Popen[str]:
        folder = self.work / project
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **ONE_THREAD}
        environment |= {
            name: str(self.work / "cache") for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME")
        }
        if self.tree is not None:
            environment["PYTHONPATH"] = str(self.tree / project)
        self._starters[project] = subprocess.Popen(
            [self.python, "-c", STARTER, json.dumps(IMPORTS[project])],
            cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self._starters[project]

    def close(self) -> None:
        """End the processes that start commands."""
        for starter in self._starters.values():
            assert starter.stdin is not None
            starter.stdin.close()
            starter.wait()


def prepare_fqgan(place: Surroundings) -> None:
    """Pictures to translate, below ``data``."""
    words = ["prepare", "toy-domains", "--toy-images", "100", "--resolution", "24"]
    if problem := place.run("fq-gan", words):
        sys.exit(f"fqgan {' '.join(words)} failed: {problem}")


def prepare_optimus(place: Surroundings) -> None:
    """The corpora of the cases of Optimus, below ``data``."""
    data = place.work / "optimus" / "data"
    for corpus in ("toy", "toy-labels"):
        words = f"prepare {corpus} --train 400 --valid 60 --test 60".split()
        if problem := place.run("optimus", words):
            sys.exit(f"optimus {' '.join(words)} failed: {problem}")
    lines = (data / "toy-labels/train.txt").read_text().splitlines()
    turns = [line.split("\t")[1] for line in lines[:81]]
    threes = zip(turns, turns[1:], turns[2:], strict=False)
    dialogs = [f"{first} [SEP] {second}\t{third}\n" for first, second, third in threes]
    (data / "dialog").mkdir(exist_ok=True)
    (data / "dialog/train.txt").write_text("".join(dialogs[:60]))
    (data / "dialog/test.txt").write_text("".join(dialogs[60:]))
    (data / "dialog/style.txt").write_text("".join(f"{line}\n" for line in turns[40:80]))
    task = data / "glue" / "SST-2"
    task.mkdir(parents=True, exist_ok=True)
    rows = [f"{text}\t{len(text) % 2}\n" for text in turns[:80]]
    (task / "train.tsv").write_text("".join(["sentence\tlabel\n", *rows[:60]]))
    (task / "dev.tsv").write_text("".join(["sentence\tlabel\n", *rows[60:]]))


PREPARE = {"optimus": prepare_optimus, "fq-gan": prepare_fqgan}


# Reading what a run leaves


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def leaf(value: Any) -> str:
    """A tensor's digest; a short number or word as it is; of anything else a digest."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous()
        head = f"{value.dtype} {tuple(value.shape)} ".encode()
        flat = value.reshape(-1).view(torch.uint8) if value.numel() else value
        return "#" + sha(head + flat.numpy().tobytes())[:12]
    if isinstance(value, np.ndarray):
        return "#" + sha(f"{value.dtype} {value.shape} ".encode() + value.tobytes())[:12]
    text = repr(value)
    return text if len(text) <= SHORT else "#" + sha(text.encode())[:12]


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Names and leaves of nested dictionaries and of sequences that hold tensors or containers."""
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from flatten(value[key], f"{name}/{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(
        isinstance(item, Mapping | list | tuple | torch.Tensor) for item in value
    ):
        for number, item in enumerate(value):
            yield from flatten(item, f"{name}/{number}" if name else str(number))
    else:
        yield name, leaf(value)


def read_tensors(path: Path) -> dict[str, str]:
    """Every array of a ``.safetensors``, ``.npz`` or pickled file by name."""
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {key: leaf(arrays[key]) for key in sorted(arrays.files)}
    if path.suffix != ".safetensors":
        # The authors' files hold their command line as a Namespace.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return dict(flatten(torch.load(path, map_location="cpu", weights_only=True)))
    with safe_open(path, "pt") as file:
        return {name: leaf(file.get_tensor(name)) for name in sorted(file.keys())}


def read_rows(path: Path) -> dict[str, str]:
    """``STEP/NAME`` and value of each number of a JSON-lines file, however it is cut into rows."""
    numbers: dict[str, str] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        step = row.pop("step")
        for name, value in row.items():
            key = f"{step:g}/{name}"
            again = sum(known.startswith(f"{key} again") for known in numbers)
            numbers[f"{key} again {again}" if key in numbers else key] = repr(value)
    return numbers


def read_run(folder: Path) -> dict[str, dict[str, str]]:
    """What a run leaves, by part: ``metrics``, ``weights``, ``state``, ``pictures``, ``scores``."""
    parts: dict[str, dict[str, str]] = {}
    newest = {max(path.glob("[0-9]*")) for path in folder.rglob("checkpoints")}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.parent.parent.name == "checkpoints":
            if path.suffix == ".pt" and path.parent in newest:
                run = path.parent.parent.parent.relative_to(folder)
                parts[f"state {run / path.stem}"] = read_tensors(path)
        elif (
            path.suffix in {*WEIGHTS, ".jsonl"}
            or "results" in path.name
            or (path.suffix == ".png" and "samples" in path.parts)
        ):
            parts |= read_file(path, name)
    return {part: content for part, content in parts.items() if "world/" not in part}


def read_file(path: Path, name: str) -> dict[str, dict[str, str]]:
    """The part that a file is, if it holds numbers, pictures or sentences."""
    if path.suffix in WEIGHTS:
        return {f"weights {name}": read_tensors(path)}
    if path.suffix == ".jsonl":
        return {f"metrics {name}": read_rows(path)}
    if path.suffix == ".png":
        return {f"pictures {name}": {"pixels": "#" + sha(Image.open(path).tobytes())[:12]}}
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        if isinstance(content, dict):  # where numbers come from is not a number
            content.pop("provenance", None)
        return {f"scores {name.replace('.trial.', '.')}": dict(flatten(content))}
    if path.suffix in {".txt", ".md", ".tsv"}:
        lines = path.read_text().splitlines()
        return {f"scores {name}": {str(i): leaf(line) for i, line in enumerate(lines)}}
    return {}


def interrupt(folder: Path) -> list[Path]:
    """Leave what a run would have left that was killed after its oldest checkpoint.

    Weights of the best score stay: a continued run writes them again where it beats its own best.
    Returns the checkpoints that are left.
    """
    kept = []
    for checkpoints in folder.rglob("checkpoints"):
        oldest, *newer = sorted(checkpoints.glob("[0-9]*"))
        if not newer:
            sys.exit(f"{folder.name} has one checkpoint; its case needs --save-every")
        for path in newer:
            shutil.rmtree(path)
        kept.append(oldest / "digest.json")
    for path in list(folder.rglob("*")):
        weights = path.suffix in {".safetensors", ".npz"} and "best" not in path.parent.name
        inside = path.relative_to(folder).parts[0] not in {"world", "data"}
        if path.is_file() and inside and (weights or "results" in path.name):
            path.unlink()
    return kept


class Difference(NamedTuple):
    """How a part differs, in words."""

    part: str
    text: str
    number: bool  # not of names or bookkeeping alone


class Outcome(NamedTuple):
    """What a case gave."""

    parts: dict[str, dict[str, str]]
    continued: Sequence[Difference] = ()  # of the continued run from the whole one
    problem: str = ""


def run_case(case: Case, place: Surroundings, *, continued: bool = True) -> Outcome:
    """Run a case: training whole, then from its oldest checkpoint."""
    runs = place.work / case.project / "runs"
    folder = runs / case.name
    names = re.sub(r"\{out\}", f"runs/{case.name}", case.command)
    words = shlex.split(re.sub(r"\{([\w-]+)\}", r"runs/\1", names))
    if not case.trains:
        return use(case, words, place)
    words += ["--run-dir", f"runs/{case.name}"]
    problem = place.run(case.project, words)
    if problem:
        return Outcome({}, problem=problem)
    whole = read_run(folder)
    if not continued:
        return Outcome(whole)
    kept = {path: path.stat().st_ino for path in interrupt(folder)}
    problem = place.run(case.project, words)
    if problem:
        return Outcome(whole, problem=f"continued: {problem}")
    if any(not path.exists() or path.stat().st_ino != inode for path, inode in kept.items()):
        return Outcome(whole, problem="the run began anew instead of continuing")
    return Outcome(whole, list(differences(whole, read_run(folder))))


def use(case: Case, words: Sequence[str], place: Surroundings) -> Outcome:
    """Run a command that uses runs: the files that are new or changed below any run."""
    runs = place.work / case.project / "runs"
    (runs / case.name).mkdir(exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    problem = place.run(case.project, words)
    if problem:
        return Outcome({}, problem=problem)
    parts: dict[str, dict[str, str]] = {}
    for path in sorted(path for path in runs.rglob("*") if path.is_file()):
        if before.get(path) != path.stat().st_mtime_ns:
            parts |= read_file(path, str(path.relative_to(runs)))
    printed = (place.work / case.project / "output.txt").read_text()
    found = Counter(re.findall(r"-?\d+\.\d+(?:e-?\d+)?(?! ?s\b)", printed))
    return Outcome({**parts, "printed": {number: str(times) for number, times in found.items()}})


# Comparing


def differences(
    before: Mapping[str, dict[str, str]],
    after: Mapping[str, dict[str, str]],
    tolerance: float = 0.0,
) -> Iterator[Difference]:
    """Parts that differ and how; scores that differ by less than ``tolerance`` are the same."""
    gone = {part: before[part] for part in before if part not in after}
    new = {part: after[part] for part in after if part not in before}
    for part in sorted(before):  # metrics, then pictures, printed, scores, state, weights
        if part in after and before[part] != after[part]:
            text = describe(before[part], after[part])
            yield Difference(part, text, is_number(part, before[part], after[part], tolerance))
    for part, content in gone.items():
        same = next((name for name in new if values(new[name]) == values(content)), None)
        if same is None:
            yield Difference(part, "is gone", not is_bookkeeping(part))
        else:
            del new[same]
            yield Difference(part, f"is now {same} with the same content", number=False)
    for part in new:
        yield Difference(part, "is new", number=False)


def is_bookkeeping(part: str) -> bool:
    """Whether a part holds no weights, no optimizer and no score."""
    kind, _, name = part.partition(" ")
    return kind == "state" and name.rpartition("/")[2] in BOOKKEEPING


def is_number(
    part: str, before: Mapping[str, str], after: Mapping[str, str], tolerance: float
) -> bool:
    """Whether a number changed: not where names alone did, nor where scores only came along."""
    if is_bookkeeping(part) or values(before) == values(after):
        return False
    if part.partition(" ")[0] not in {"metrics", "scores", "printed"}:
        return True
    apart = [
        None if name not in after else 0.0 if after[name] == value else distance(value, after[name])
        for name, value in before.items()
    ]
    return any(number is None or number > tolerance for number in apart)


def values(content: Mapping[str, str]) -> Counter[str]:
    return Counter(content.values())


def describe(before: Mapping[str, str], after: Mapping[str, str], shown: int = 3) -> str:
    """How two contents differ: which names, and by how much where they are numbers."""
    changed = [name for name in before if name in after and before[name] != after[name]]
    gone = [name for name in before if name not in after]
    new = [name for name in after if name not in before]
    if not changed and gone and values(before) == values(after):
        return f"other names, same content: {gone[0]} is now {new[0]} ({len(gone)} in all)"
    texts = []
    if changed:
        apart = [distance(before[name], after[name]) for name in changed]
        known = [number for number in apart if number is not None]
        most = f", at most {max(known):.2g} apart relatively" if known else ""
        named = [
            name if before[name].startswith("#") else f"{name} {before[name]} -> {after[name]}"
            for name in changed[:shown]
        ]
        texts.append(f"{len(changed)} of {len(before)} changed{most}: {', '.join(named)}")
    if gone:
        texts.append(f"{len(gone)} gone: {', '.join(gone[:shown])}")
    if new:
        texts.append(f"{len(new)} new: {', '.join(new[:shown])}")
    return "; ".join(texts)


def distance(before: str, after: str) -> float | None:
    """Relative distance of two numbers, ``None`` where they are none."""
    try:
        one, other = float(before), float(after)
    except ValueError:
        return None
    if one == other or (math.isnan(one) and math.isnan(other)):
        return 0.0
    return abs(one - other) / max(abs(one), abs(other))


# Records


def pack(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """A record; lists of names or values that occur several times are kept once."""
    tables: dict[str, dict[str, Any]] = {"names": {}, "contents": {}}

    def keep(table: str, content: Any) -> str:
        key = sha(json.dumps(content).encode())[:16]
        tables[table][key] = content
        return key

    cases = {}
    for name, outcome in outcomes.items():
        parts = {
            part: [keep("names", list(content)), keep("contents", list(content.values()))]
            for part, content in outcome.parts.items()
        }
        cases[name] = {"parts": parts, "continued": outcome.continued, "problem": outcome.problem}
    return {"machine": machine(), **tables, "cases": cases}


def unpack(record: Mapping[str, Any], name: str) -> Outcome:
    """A case of a record; ``KeyError`` where it has none of that name."""
    case = record["cases"][name]
    parts = {
        part: dict(zip(record["names"][names], record["contents"][content], strict=True))
        for part, (names, content) in case["parts"].items()
    }
    continued = [Difference(*difference) for difference in case["continued"]]
    return Outcome(parts, continued, case["problem"])


def machine() -> str:
    """What decides how numbers are rounded."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    processor = found[1].strip() if found else "unknown processor"
    return f"{processor}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


def verdict(before: Outcome, after: Outcome, tolerance: float) -> tuple[bool, list[str]]:
    """Whether the numbers of a case are the same, and the lines to print."""
    if after.problem:
        return False, [f"FAILED: {after.problem}"]
    found = list(differences(before.parts, after.parts, tolerance))
    found += [
        Difference(f"{part} (continued)", text, number)
        for part, text, number in after.continued
        if (part, text, number) not in before.continued
    ]
    numbers = any(difference.number for difference in found)
    word = "DIFFERENT" if numbers else "same numbers, other bookkeeping" if found else "same"
    return not numbers, [word, *(f"    {one.part}: {one.text}" for one in found)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--record", type=Path, metavar="FILE", help="run the cases, write or mend FILE"
    )
    what.add_argument("--compare", type=Path, metavar="FILE", help="run the cases, compare")
    what.add_argument("--list", action="store_true", help="print the cases and their commands")
    more = parser.add_argument
    more("--only", nargs="+", default=["*"], metavar="PATTERN", help="such as 'fq-gan/*' '*/r2r-*'")
    more("--tolerance", type=float, default=0.0, help="relative, of metrics and scores alone")
    more("--strict", action="store_true", help="exit 1 for differences of bookkeeping too")
    more("--tree", type=Path, help="the checkout to run; by default this one")
    more("--installed", action="store_true", help="run the installed packages instead")
    more("--python", default=sys.executable, help="interpreter of the environment")
    more("--work", type=Path, help="keep the runs in this new folder")
    options = parser.parse_args()

    chosen = [case for case in CASES if matches(case, options.only)]
    if options.list:
        for case in chosen:
            print(f"{case.project}/{case.name}: {case.command}")
        return 0
    if not chosen:
        parser.error(f"no case matches {' '.join(options.only)}; --list shows them")
    record = json.loads(options.compare.read_text()) if options.compare else {"cases": {}}
    if options.compare and record["machine"] != machine():
        print(
            f"recorded on {record['machine']}; this is {machine()}: numbers may differ in rounding"
        )
    tree = None if options.installed else (options.tree or ROOT).resolve()
    with tempfile.TemporaryDirectory(prefix="same-numbers-") as scratch:
        work = (options.work or Path(scratch)).resolve()
        place = Surroundings(options.python, tree, work)
        try:
            outcomes, good = run_all(chosen, place, record, options)
        finally:
            place.close()
    if options.record:
        if options.record.exists():  # keep what it says of other cases
            old = json.loads(options.record.read_text())
            kept = {name: unpack(old, name) for name in old["cases"]}
            outcomes = {**kept, **outcomes} if old["machine"] == machine() else outcomes
        options.record.write_text(json.dumps(pack(outcomes), separators=(",", ":")) + "\n")
        print(f"wrote {options.record}: {len(outcomes)} cases")
    return 0 if good else 1


def matches(case: Case, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(f"{case.project}/{case.name}", pattern) for pattern in patterns)


def run_all(
    chosen: Sequence[Case],
    place: Surroundings,
    record: Mapping[str, Any],
    options: argparse.Namespace,
) -> tuple[dict[str, Outcome], bool]:
    """Run the cases in turn, those that they need first, and print a line each."""
    by_name = {(case.project, case.name): case for case in CASES}
    for project in dict.fromkeys(case.project for case in chosen):
        if project in PREPARE:
            PREPARE[project](place)
    outcomes: dict[str, Outcome] = {}
    good = True
    for case in chosen:
        began = time.monotonic()
        name = f"{case.project}/{case.name}"
        for needed in set(re.findall(r"\{([\w-]+)\}", case.command)) - {"out"}:
            if not (place.work / case.project / "runs" / needed).exists():
                run_case(by_name[case.project, needed], place, continued=False)
        try:
            outcome = run_case(case, place)
        except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            outcome = Outcome({}, problem=f"its files cannot be read: {error}")
        outcomes[name] = outcome
        if options.compare:
            same, lines = False, ["not in the record"]
            if name in record["cases"]:
                same, lines = verdict(unpack(record, name), outcome, options.tolerance)
            good &= same and not (options.strict and len(lines) > 1)
        else:
            lines = [f"FAILED: {outcome.problem}" if outcome.problem else "recorded"]
            lines += [f"    {part} (continued): {text}" for part, text, _ in outcome.continued]
            good &= not outcome.problem and not outcome.continued
        print(f"{name} ({time.monotonic() - began:.0f} s): " + "\n".join(lines), flush=True)
    return outcomes, good


if __name__ == "__main__":
    sys.exit(main())
