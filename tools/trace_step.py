"""Count the files that a reader passes who follows a smoke run from its command line to its end.

    python tools/trace_step.py
    python tools/trace_step.py biggan --files --tree ../other-checkout

A batch of BigGAN, an episode of R2R and a batch of sentences of Optimus. Each function of a package
counts once, at its first call: *files* are those with such a function, *changes* those between one
first call and the next in another file. Top-level code of modules and bodies of classes do not
count, functions that they call do. *To the loss* ends at the first backward pass.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CASES = {
    "biggan": ("fq-gan", "fqgan", "train smoke"),
    "episode": ("prevalent", "prevalent", "train-r2r smoke"),
    "sentences": ("optimus", "optimus", "train smoke"),
}
HEADER = ("case", "command", "files", "changes", "files to the loss", "changes to the loss")
FUNCTION = 1  # the flag CO_OPTIMIZED, which modules and class bodies lack


class Follower:
    """The first calls of a package's functions in the main process, in order."""

    def __init__(self, package: Path) -> None:
        self.prefix = f"{package}{os.sep}"
        self.files: list[str] = []  # of each function, when it is called first
        self.to_the_loss: int | None = None  # how many of them come before the first backward pass
        self._known: set[CodeType] = set()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Called by Python at every call and return."""
        code = frame.f_code
        if event != "call" or code in self._known:
            return
        if code.co_filename.startswith(self.prefix) and code.co_flags & FUNCTION:
            self._known.add(code)
            self.files.append(code.co_filename.removeprefix(self.prefix))
        elif code.co_name == "backward" and code.co_filename.endswith("torch/_tensor.py"):
            self._known.add(code)
            self.to_the_loss = len(self.files)


def follow(folder: Path, package: str, words: list[str]) -> dict[str, Any]:
    """Run ``python -m PACKAGE WORDS`` in this process and follow it."""
    follower = Follower(folder / package)
    sys.path.insert(0, str(folder))
    sys.argv = [package, *words]
    sys.setprofile(follower)
    try:
        runpy.run_module(package, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.setprofile(None)
    return {"files": follower.files, "to_the_loss": follower.to_the_loss}


def trace(case: str, tree: Path, work: Path) -> tuple[list[str], int]:
    """The files of first calls of a case, and how many of these calls come before the loss."""
    project, package, command = CASES[case]
    folder, environment = tree / project, {**os.environ, "OMP_NUM_THREADS": "1"}
    if project == "optimus":
        words = ["prepare", "toy", "--train", "400", "--valid", "60", "--test", "60"]
        environment["PYTHONPATH"] = str(folder)
        run([sys.executable, "-m", package, *words], work, environment)
    result = work / f"{case}.json"
    words = [*command.split(), "--run-dir", str(work / case)]
    follower = [sys.executable, __file__, "--follow", str(folder), package, str(result)]
    run([*follower, "--", *words], work, environment)
    found = json.loads(result.read_text())
    return found["files"], found["to_the_loss"]


def run(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command; ``SystemExit`` with its last words where it fails."""
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stderr[-2000:]}")


def row_of(case: str, tree: Path) -> tuple[list[str], list[str]]:
    """A row of the table, and the files in order of first visit."""
    with tempfile.TemporaryDirectory(prefix="trace-step-") as work:
        files, end = trace(case, tree.resolve(), Path(work))
    _, package, command = CASES[case]
    counts = [len(set(files)), changes(files), len(set(files[:end])), changes(files[:end])]
    return [case, f"`{package} {command}`", *map(str, counts)], list(dict.fromkeys(files))


def changes(files: list[str]) -> int:
    """How often a file follows on another."""
    return sum(one != other for one, other in pairwise(files))


def main() -> None:
    if sys.argv[1:2] == ["--follow"]:  # in a process of its own
        folder, package, result, _, *words = sys.argv[2:]
        Path(result).write_text(json.dumps(follow(Path(folder), package, words)))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout; this one by default")
    parser.add_argument("--files", action="store_true", help="print the files in order of visit")
    options = parser.parse_args()
    unknown = set(options.cases) - CASES.keys()
    if unknown:
        parser.error(f"unknown case {unknown.pop()!r}; there are {', '.join(CASES)}")
    print("| " + " | ".join(HEADER) + " |\n|" + " --- |" * len(HEADER))
    visited = {}
    for case in options.cases or CASES:
        row, visited[case] = row_of(case, options.tree)
        print("| " + " | ".join(row) + " |", flush=True)
    for case, files in visited.items():
        if options.files:
            print(f"\n{case}, in order of first visit:", *files, sep="\n  ")


if __name__ == "__main__":
    main()
