"""Every command in a document is parsed by the program itself; every link leads somewhere."""

import dataclasses
import io
import json
from pathlib import Path

import pytest
import torch
from documents import (
    DOCUMENTS,
    ROOT,
    absent_files,
    commands,
    dependencies,
    exit_of,
    help_without_imports,
    python_blocks,
)
from PIL import Image
from ugatit_runs import tiny_weights

from fqgan.__main__ import VERBS, main
from fqgan.config import all_presets

PRESETS = all_presets()

SMOKE = {"biggan": "smoke", "ugatit": "ugatit-smoke", "stylegan2": "stylegan2-smoke"}
BLOCKS, INLINE = commands("fqgan")
COMPLETE = [
    command
    for command in [*BLOCKS, *(one for one in INLINE if " --" in one.line)]
    if "..." not in command.line and not command.line.startswith("migrate")
]


def family_of_command(document, words):
    if document in SMOKE:
        return document
    if "s2a" in " ".join(words) or words[0] == "translate":
        return "ugatit"
    stylegan = {"--metrics", "--seeds", "--rows"} & set(words) or words[0] == "project"
    return "stylegan2" if stylegan else "biggan"


@pytest.mark.parametrize("command", COMPLETE, ids=str)
def test_a_command_of_a_document_is_accepted(command, tmp_path, monkeypatch, capsys):
    document, words = command.document.stem, command.words()
    words = ["1" if word == "N" else word for word in words if word not in ("VERB", "PRESET")]
    monkeypatch.chdir(tmp_path)
    run = PRESETS[SMOKE[family_of_command(document, words)]][1]
    for option in ("--run-dir", "--weights"):
        if option in words and words[0] != "train":
            folder = Path(words[words.index(option) + 1])
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(json.dumps(dataclasses.asdict(run)))
    dry = [] if "--help" in words else ["--dry-run"]
    assert exit_of(main, [*words, *dry]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_files_exist(path):
    assert absent_files(path, "benchmarks", "tests", "docs") == []


def test_help_is_quick_because_it_imports_nothing_heavy():
    text = help_without_imports("fqgan")
    assert [verb for verb in VERBS if verb not in text] == []


def test_every_dependency_has_its_reason_in_the_readme():
    names = dependencies()
    assert len(names) <= 12
    section = (ROOT / "README.md").read_text().split("## What it needs")[1].split("##")[0]
    assert not [name for name in names if name not in section]


@pytest.mark.parametrize(("name", "block"), python_blocks(), ids=lambda value: value[:20])
def test_python_in_a_document_runs(name, block, tmp_path, monkeypatch):
    """With small weights that were not trained, on the CPU, and what is around a block."""
    tiny_weights(tmp_path / "runs" / "s2a" / "model")
    monkeypatch.chdir(tmp_path)
    picture = io.BytesIO()
    Image.new("RGB", (20, 10)).save(picture, "PNG")
    around = {
        "hidden": torch.randn(2, 256, 4, 4, requires_grad=True),
        "d_loss": torch.zeros(()),
        "g_loss": torch.zeros(()),
        "uploaded_bytes": picture.getvalue(),
    }
    exec(
        compile(block.replace('"cuda"', '"cpu"'), name, "exec"), {"__name__": "document", **around}
    )
