"""Print the size of each project, and what stands in it twice.

    python tools/sizes.py
    python tools/sizes.py --tree ../other-checkout --pairs 20
    python tools/sizes.py --write    # with the counts of trace_step.py into docs/sizes.md

Lines are those of ``*.py``, blank ones and comments counted; *root* are the files at the root of
the package; *imports* the lines of import statements. *Repeated* are lines that stand a second
time, in runs of at least 6 lines and 50 tokens; *of one shape* the same once names, strings and
numbers are removed, and *pairs* the pairs of places. Imports, comments and docstrings are left out,
and so are runs with fewer than 5 different lines: rows of a table look alike by nature. Twins,
which are the same in the three projects by design, do not count between them. Standard library
only; docs/sizes.md keeps the table.
"""

from __future__ import annotations

import argparse
import ast
import io
import keyword
import re
import subprocess
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, takewhile
from pathlib import Path
from typing import NamedTuple

import trace_step
from check_twins import PACKAGES

ROOT = Path(__file__).resolve().parent.parent
RUN, TOKENS, DIFFERENT = 6, 50, 5  # least lines, tokens and different lines of a repetition
HEADER: tuple[str, ...] = ("project", "files", "root", "lines", "imports", "test files", "of tests")
HEADER += ("longest file", "longest function", "dependencies", "repeated", "of one shape", "pairs")
NOW = "## Now"
SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
SILENT |= {tokenize.ENDMARKER, tokenize.ENCODING}


class Function(NamedTuple):
    """A function and its number of lines, decorators not counted."""

    lines: int
    name: str


class Line(NamedTuple):
    """A line of code of a file."""

    number: int
    text: str  # its tokens
    shape: str  # its tokens without names, strings and numbers
    tokens: int


def functions(path: Path) -> Iterator[Function]:
    """Every function and method of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function((node.end_lineno or 0) - node.lineno + 1, f"{path.stem}.{node.name}")


def count(path: Path) -> int:
    """Lines of a file."""
    return len(path.read_text().splitlines())


def left_out(tree: ast.AST) -> tuple[set[int], set[int]]:
    """Numbers of the lines of imports, and of docstrings and other bare strings."""
    imports: set[int] = set()
    strings: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= set(range(node.lineno, (node.end_lineno or 0) + 1))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            strings |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return imports, strings


def code_lines(path: Path) -> list[Line]:
    """The lines of code of a file, without imports, comments and docstrings."""
    source = path.read_text()
    ignored = set.union(*left_out(ast.parse(source)))
    words: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in SILENT or token.start[0] in ignored:
            continue
        shape = token.string
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            shape = "name"
        elif token.type in {tokenize.STRING, tokenize.NUMBER}:
            shape = "value"
        words[token.start[0]].append((token.string, shape))
    return [
        Line(number, " ".join(text for text, _ in row), " ".join(s for _, s in row), len(row))
        for number, row in sorted(words.items())
    ]


class Pair(NamedTuple):
    """Two places with the same ``length`` lines of code; each is (file, first line of code)."""

    one: tuple[int, int]
    other: tuple[int, int]
    length: int

    def holds(self, pair: Pair) -> bool:
        """Whether both places of ``pair`` lie within those of this one."""
        return all(
            outer[0] == inner[0] and 0 <= inner[1] - outer[1] <= self.length - pair.length
            for outer, inner in ((self.one, pair.one), (self.other, pair.other))
        )


def repetitions(files: Sequence[Sequence[Line]], field: str) -> list[Pair]:
    """Pairs of places with the same ``text`` or ``shape``, the longest first."""
    windows: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    keys = [[getattr(line, field) for line in lines] for lines in files]
    for file, rows in enumerate(keys):
        for first in range(len(rows) - RUN + 1):
            windows[tuple(rows[first : first + RUN])].append((file, first))
    found = []
    for places in windows.values():
        for (file, first), (other_file, other_first) in combinations(places, 2):
            before = keys[file][:first][-1:], keys[other_file][:other_first][-1:]
            if before[0] and before[0] == before[1]:  # the middle of a pair
                continue
            one, other = keys[file][first:], keys[other_file][other_first:]
            if file == other_file:  # a place does not repeat itself
                one = one[: other_first - first]
            same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
            length = sum(1 for _ in same)
            tokens = sum(line.tokens for line in files[file][first : first + length])
            if length >= RUN and tokens >= TOKENS and len(set(one[:length])) >= DIFFERENT:
                found.append(Pair((file, first), (other_file, other_first), length))
    kept: list[Pair] = []
    for pair in sorted(found, key=lambda pair: -pair.length):
        if not any(longer.holds(pair) for longer in kept):
            kept.append(pair)
    return kept


def second_lines(pairs: Iterable[Pair]) -> int:
    """Lines that stand a second time."""
    return len({(pair.other[0], pair.other[1] + i) for pair in pairs for i in range(pair.length)})


def python_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def row_of(tree: Path, project: str, package: str) -> tuple[str, ...]:
    """One line of the table."""
    files, tests = python_files(tree / project / package), python_files(tree / project / "tests")
    longest = max(files, key=count)
    function = max(found for path in files for found in functions(path))
    settings = tomllib.loads((tree / project / "pyproject.toml").read_text())
    lines = [code_lines(path) for path in files]
    shapes = repetitions(lines, "shape")
    imports = sum(len(left_out(ast.parse(path.read_text()))[0]) for path in files)
    return (
        project,
        str(len(files)),
        str(len(list((tree / project / package).glob("*.py")))),
        f"{sum(map(count, files)):,}",
        f"{imports:,}",
        str(len(tests)),
        f"{sum(map(count, tests)):,}",
        f"{longest.name} {count(longest)}",
        f"{function.name} {function.lines}",
        str(len(settings["project"]["dependencies"])),
        str(second_lines(repetitions(lines, "text"))),
        str(second_lines(shapes)),
        str(len(shapes)),
    )


def without_twins(tree: Path) -> list[Path]:
    """The files of all packages; of twins the first alone."""
    seen: set[tuple[Path, str]] = set()
    kept = []
    for project, package in PACKAGES.items():
        folder = tree / project / package
        for path in python_files(folder):
            key = (path.relative_to(folder), path.read_text())
            if key not in seen:
                kept.append(path)
            seen.add(key)
    return kept


def between_projects(tree: Path, field: str) -> list[Pair]:
    """The pairs whose places are in different projects."""
    files = without_twins(tree)
    projects = [path.relative_to(tree).parts[0] for path in files]
    pairs = repetitions([code_lines(path) for path in files], field)
    return [pair for pair in pairs if projects[pair.one[0]] != projects[pair.other[0]]]


def show(tree: Path, most: int) -> None:
    """Print the longest pairs of one shape, within and between projects."""
    files = without_twins(tree)
    lines = [code_lines(path) for path in files]
    for pair in repetitions(lines, "shape")[:most]:
        ends = [
            f"{files[file].relative_to(tree)}:{lines[file][first].number}"
            for file, first in (pair.one, pair.other)
        ]
        print(f"{pair.length:4} lines  {ends[0]}  {ends[1]}")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---" for _ in header], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def sizes(tree: Path) -> str:
    """The table of sizes."""
    rows = [row_of(tree, *names) for names in PACKAGES.items()]
    text, shape = (between_projects(tree, field) for field in ("text", "shape"))
    counts = (str(second_lines(text)), str(second_lines(shape)), str(len(shape)))
    rows.append(("between them", *[""] * (len(HEADER) - 4), *counts))
    return table(HEADER, rows)


def write(tree: Path) -> None:
    """Put the sizes and the files that a reader passes into the section NOW of docs/sizes.md."""
    git = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    rows = [trace_step.row_of(case, tree)[0] for case in trace_step.CASES]
    section = (
        f"{NOW} ({commit or tree.name})\n\n{sizes(tree)}\n\n{table(trace_step.HEADER, rows)}\n\n"
    )
    page = ROOT / "docs" / "sizes.md"
    page.write_text(re.sub(rf"{NOW}.*?(?=## |\Z)", section, page.read_text(), flags=re.DOTALL))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tree", type=Path, default=ROOT, help="the checkout; this one by default")
    parser.add_argument("--pairs", type=int, default=0, help="print so many of the longest pairs")
    parser.add_argument("--write", action="store_true", help="into docs/sizes.md")
    options = parser.parse_args()
    tree = options.tree.resolve()
    if options.write:
        write(tree)
    else:
        print(sizes(tree))
    if options.pairs:
        show(tree, options.pairs)


if __name__ == "__main__":
    main()
