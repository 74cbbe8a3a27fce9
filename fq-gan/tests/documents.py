"""What the documents of a project name: commands with their options, links, files, dependencies."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
FENCED_PYTHON = re.compile(r"^```(?:python|py)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
SEVERAL = re.compile(r"[{$*]|\.\.\.")  # a word that stands for several
OPEN = re.compile(r"[{$*]|\.\.\.|^(.*-)?[A-Z]+$")  # a verb, preset or name that is left open
UNKNOWN = re.compile(r"nrecognized|unknown|invalid choice|choose one", re.IGNORECASE)
HEAVY = ("PIL", "gradio", "h5py", "matplotlib", "numpy", "scipy", "torch", "transformers", "tyro")


class Command(NamedTuple):
    """A command line in a document, without the name of the program."""

    document: Path
    line: str

    def __str__(self) -> str:
        return f"{self.document.name}: {self.line}"

    def words(self) -> list[str]:
        """Without comment; what is in square brackets is optional and taken."""
        return shlex.split(re.sub(r"[\[\]]", "", self.line.split("&&")[0]), comments=True)


def commands(prog: str) -> tuple[list[Command], list[Command]]:
    """Commands of all documents behind the word ``prog``: in blocks, and in running text."""
    pattern = re.compile(rf"(?:\$ )?(?:(?:python|torchrun .*?) -m )?{prog} (.*)")
    blocks, inline = [], []
    for path in DOCUMENTS:
        text = path.read_text()
        code = "".join([*FENCED.findall(text), *INDENTED.findall(text)])
        lines = [line.strip() for line in code.replace("\\\n", " ").splitlines()]
        blocks += [Command(path, found[1]) for line in lines if (found := pattern.fullmatch(line))]
        parts = re.findall(r"`([^`]+)`", FENCED.sub("", text))
        inline += [Command(path, found[1]) for part in parts if (found := pattern.match(part))]
    return blocks, sorted(set(inline))


def exit_of(main: Callable[[Sequence[str]], Any], words: Sequence[str]) -> int:
    """The exit status of the console script ``main``."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return int(stopped.value.code or 0)


def is_open(words: Sequence[str]) -> bool:
    """Whether the first of the ``words`` behind a verb, its preset, is left open."""
    return bool(words) and OPEN.search(words[0]) is not None


def has_known_options(
    main: Callable[[Sequence[str]], Any],
    verbs: Container[str],
    words: Sequence[str],
    capsys: pytest.CaptureFixture[str],
) -> bool:
    """Whether verb and options of ``words`` exist; a sentence may leave out what is required."""
    if OPEN.search(words[0]):
        return True
    if words[0] not in verbs:
        return False
    if len(words) == 1 or is_open(words[1:]) or any(map(SEVERAL.search, words)):
        return True
    code = exit_of(main, [*words, "--dry-run"])
    return code == 0 or not UNKNOWN.search(capsys.readouterr().err)


def python_blocks() -> list[tuple[str, str]]:
    """Name of the document and code of every block of Python in the documents."""
    found = [(path, FENCED_PYTHON.findall(path.read_text())) for path in DOCUMENTS]
    return [(path.name, block) for path, blocks in found for block in blocks]


def absent_files(path: Path, *folders: str) -> list[str]:
    """Relative links of ``path``, and files below ``folders`` that it names, that do not exist."""
    text = path.read_text()
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    named = re.findall(rf"`((?:{'|'.join(folders)})/[\w./-]+)`", text)
    places = [path.parent / link for link in links]
    places += [ROOT / name for name in named if "NAME" not in name]  # which stands for several
    return [str(place) for place in places if not place.exists()]


def dependencies() -> list[str]:
    """Names of the packages that the project needs at run time."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [re.split(r"[<>=~!\[; ]", needed)[0] for needed in project["dependencies"]]


def help_without_imports(package: str) -> str:
    """What ``--help`` prints; fails where it imports one of the modules that take long."""
    code = f"import sys, {package}.__main__ as m\ntry: m.main(['--help'])\n"
    code += f"finally: print(sorted({{*{HEAVY!r}}} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *text, imported = done.stdout.splitlines()
    assert imported == "[]", done.stderr
    return "\n".join(text)
