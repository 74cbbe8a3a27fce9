"""Every command in a document is parsed by the program itself; every link leads somewhere."""

import dataclasses
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fqgan.__main__ import VERBS, main
from fqgan.config import PRESETS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SMOKE = {"biggan": "smoke", "ugatit": "ugatit-smoke", "stylegan2": "stylegan2-smoke"}
HEAVY = ("torch", "numpy", "scipy", "h5py", "PIL", "gradio", "matplotlib", "tyro")


def commands(document):
    """Command lines of the fenced blocks and, with options, of the running text."""
    text = document.read_text()
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    lines = [line for block in fenced for line in block.replace("\\\n", " ").splitlines()]
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    lines += [line for line in re.findall(r"`(fqgan [^`\n]+)`", rest) if " --" in line]
    for line in lines:
        if not line.startswith(("fqgan ", "torchrun ")) or "..." in line or " migrate " in line:
            continue
        words = shlex.split(line, comments=True)
        yield words[words.index("fqgan") + 1 :]


CASES = {
    f"{document.name}: {' '.join(words)}": (document.stem, words)
    for document in DOCUMENTS
    for words in commands(document)
}


def family_of_command(document, words):
    if document in SMOKE:
        return document
    if "s2a" in " ".join(words) or words[0] == "translate":
        return "ugatit"
    stylegan = {"--metrics", "--seeds", "--rows"} & set(words) or words[0] == "project"
    return "stylegan2" if stylegan else "biggan"


@pytest.mark.parametrize("name", CASES)
def test_a_command_of_a_document_is_accepted(name, tmp_path, monkeypatch, capsys):
    document, words = CASES[name]
    words = ["1" if word == "N" else word for word in words if word not in ("VERB", "PRESET")]
    monkeypatch.chdir(tmp_path)
    run = PRESETS[SMOKE[family_of_command(document, words)]][1]
    for option in ("--run-dir", "--weights"):
        if option in words and words[0] != "train":
            folder = Path(words[words.index(option) + 1])
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(json.dumps(dataclasses.asdict(run)))
    dry = [] if "--help" in words else ["--dry-run"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, *dry])
    assert stopped.value.code == 0, capsys.readouterr().err


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_files_exist(document):
    text = document.read_text()
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in link:
            assert (document.parent / link).exists(), link
    for name in re.findall(r"`((?:benchmarks|tests|docs)/[\w/.-]+\.(?:py|md))`", text):
        assert (ROOT / name).exists(), name


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = (
        "import sys; from fqgan.__main__ import main\n"
        "try: main(['--help'])\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    assert all(verb in done.stdout for verb in VERBS)


def test_every_dependency_has_its_reason_in_the_readme():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=]", needed)[0] for needed in project["dependencies"]]
    assert len(names) <= 12
    section = (ROOT / "README.md").read_text().split("## What it needs")[1].split("##")[0]
    assert not [name for name in names if name not in section]
