"""What the documents say exists: commands with their options, scripts and linked files."""

import pytest
from documents import (
    DOCUMENTS,
    ROOT,
    absent_files,
    commands,
    dependencies,
    exit_of,
    has_known_options,
    help_without_imports,
    is_open,
    python_blocks,
)
from factories import tiny_vae

from optimus.__main__ import VERBS, main
from optimus.data.toy import toy_sentences
from optimus.released.commands import migrate

BLOCKS, INLINE = commands("optimus")


def test_commands_are_found():
    assert len(BLOCKS) > 20
    assert len(INLINE) > 20


@pytest.mark.parametrize("command", BLOCKS, ids=str)
def test_a_command_of_a_block_is_valid(command, capsys):
    words = command.words()
    assert words[0] in VERBS
    if words[0] == "migrate":
        assert migrate(words[1:]).text()
    elif not is_open(words[1:]):
        given = [word.replace("$b", "random") for word in words]
        assert exit_of(main, [*given, "--dry-run"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("command", INLINE, ids=str)
def test_a_command_in_running_text_has_the_verb_and_options_it_names(command, capsys):
    words = command.words()
    if words[0] != "migrate":  # which has no --dry-run
        assert has_known_options(main, VERBS, words, capsys)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_scripts_and_modules_exist(path):
    assert absent_files(path, "scripts", "benchmarks", "tests", "published", "optimus") == []


def test_the_readme_lists_every_verb():
    text = (ROOT / "README.md").read_text()
    assert {verb for verb in VERBS if f"`optimus {verb}" not in text} == set()


def test_every_dependency_is_given_a_reason():
    names = dependencies()
    assert len(names) <= 12
    text = (ROOT / "README.md").read_text()
    assert [name for name in names if f"`{name}`" not in text] == []


def test_help_imports_nothing_heavy():
    text = help_without_imports("optimus")
    assert [verb for verb in VERBS if verb not in text] == []


@pytest.mark.parametrize(("name", "block"), python_blocks(), ids=lambda value: value[:20])
def test_python_in_a_document_runs(name, block, tmp_path, monkeypatch):
    """In place of the demo's run stands a small model that was not trained."""
    tiny_vae(toy_sentences(40)).save_pretrained(tmp_path / "runs" / "optimus-demo")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, name, "exec"), {"__name__": "document"})
