"""Print the size of each project: lines, longest file and function, dependencies, repeated lines.

    python tools/sizes.py

Repeated lines are counted by jscpd (`npm install -g jscpd`) where it is installed. Standard library
only; docs/sizes.md keeps the table.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from check_twins import PACKAGES
from collect import ROOT, table

HEADER = ("project", "files", "lines", "of tests", "longest file", "longest function")
HEADER += ("dependencies", "repeated")


class Function(NamedTuple):
    """A function and its number of lines, decorators not counted."""

    lines: int
    name: str


def functions(path: Path) -> Iterator[Function]:
    """Every function and method of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function((node.end_lineno or 0) - node.lineno + 1, f"{path.stem}.{node.name}")


def count(path: Path) -> int:
    """Lines of a file."""
    return len(path.read_text().splitlines())


def repeated(folder: Path) -> str:
    """Lines that stand twice in ``folder`` by jscpd, runs of at least 6 lines and 50 tokens."""
    program = shutil.which("jscpd")
    if program is None:
        return "jscpd is not installed"
    with tempfile.TemporaryDirectory() as out:
        options = ["--min-lines=6", "--min-tokens=50", "--format=python", "--reporters=json"]
        command = [program, *options, "--silent", f"--output={out}", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        total = json.loads(Path(out, "jscpd-report.json").read_text())["statistics"]["total"]
    return f"{total['duplicatedLines']} ({total['percentage']:.1f} %)"


def row_of(project: str, package: str) -> tuple[str, ...]:
    """One line of the table."""
    files = sorted((ROOT / project / package).rglob("*.py"))
    longest = max(files, key=count)
    function = max(found for path in files for found in functions(path))
    settings = tomllib.loads((ROOT / project / "pyproject.toml").read_text())
    return (
        project,
        str(len(files)),
        f"{sum(map(count, files)):,}",
        f"{sum(map(count, (ROOT / project / 'tests').rglob('*.py'))):,}",
        f"{longest.name} {count(longest)}",
        f"{function.name} {function.lines}",
        str(len(settings["project"]["dependencies"])),
        repeated(ROOT / project / package),
    )


if __name__ == "__main__":
    print(table(HEADER, [row_of(*names) for names in PACKAGES.items()]))
