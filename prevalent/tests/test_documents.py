"""What the documents say exists: commands with their options, scripts and linked files."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from prevalent.__main__ import VERBS, main

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?:\$ )?(?:(?:python|torchrun .*?) -m )?prevalent (.*)")
SEVERAL = re.compile(r"[{$*]|\.\.\.")  # a word that stands for several
OPEN = re.compile(r"[{$*]|\.\.\.|^(.*-)?[A-Z]+$")  # a verb, preset or name that is left open
UNKNOWN = re.compile(r"nrecognized|unknown|invalid choice|choose one", re.IGNORECASE)


def commands(path: Path) -> tuple[list[str], list[str]]:
    """Commands of ``path`` behind the word prevalent: in blocks, and in running text."""
    text = path.read_text()
    blocks = "".join(re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    blocks += "".join(re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE))
    lines = blocks.replace("\\\n", " ").splitlines()
    whole = [found[1] for line in lines if (found := COMMAND.fullmatch(line.strip()))]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    inline = [
        found[1] for part in re.findall(r"`([^`]+)`", prose) if (found := COMMAND.match(part))
    ]
    return whole, inline


def split(command: str) -> list[str]:
    """Words of ``command`` without comment; what is in square brackets is optional and taken."""
    return shlex.split(re.sub(r"[\[\]]", "", command.split("&&")[0]), comments=True)


def exit_of(words: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return int(stopped.value.code or 0)


BLOCKS = [(path.name, c) for path in DOCUMENTS for c in commands(path)[0]]
INLINE = sorted({(path.name, c) for path in DOCUMENTS for c in commands(path)[1]})


def test_commands_are_found():
    assert len(BLOCKS) > 20
    assert len(INLINE) > 20


@pytest.mark.parametrize(("name", "command"), BLOCKS)
def test_a_command_of_a_block_is_valid(name, command, capsys):
    words = split(command)
    assert words[0] in VERBS
    if not OPEN.search(words[1] if len(words) > 1 else ""):
        given = [word.replace("$path_type", "trusted_path") for word in words]
        assert exit_of([*given, "--dry-run"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(("name", "command"), INLINE)
def test_a_command_in_running_text_has_the_verb_and_options_it_names(name, command, capsys):
    words = split(command)
    if OPEN.search(words[0]):
        return
    assert words[0] in VERBS
    whole = not OPEN.search((words[1:] or ["-"])[0]) and not any(map(SEVERAL.search, words))
    if whole and len(words) > 1:
        code = exit_of([*words, "--dry-run"])  # what is left out of a sentence may be required
        assert code == 0 or not UNKNOWN.search(capsys.readouterr().err)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_scripts_and_modules_exist(path):
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (path.parent / target).exists(), target
    for target in re.findall(
        r"`((?:scripts|benchmarks|tests|published|prevalent)/[\w./-]+)`", text
    ):
        assert (ROOT / target).exists(), target


def test_the_readme_lists_every_verb():
    text = (ROOT / "README.md").read_text()
    assert {verb for verb in VERBS if f"prevalent {verb}" not in text} == set()


def test_every_dependency_is_given_a_reason():
    listed = re.search(
        r"^dependencies = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.S | re.M
    )
    names = re.findall(r'"([\w-]+)', listed[1])
    assert len(names) <= 12
    text = (ROOT / "README.md").read_text()
    assert [name for name in names if name not in text] == []


def test_help_imports_no_torch():
    code = "import sys, prevalent.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'transformers', 'numpy', 'tyro', 'gradio'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
