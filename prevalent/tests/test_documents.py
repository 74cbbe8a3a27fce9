"""What the documents say exists: commands with their options, scripts and linked files."""

import pytest

from prevalent.__main__ import VERBS, main
from tests.documents import (
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

BLOCKS, INLINE = commands("prevalent")


def test_commands_are_found():
    assert len(BLOCKS) > 20
    assert len(INLINE) > 20


@pytest.mark.parametrize("command", BLOCKS, ids=str)
def test_a_command_of_a_block_is_valid(command, capsys):
    words = command.words()
    assert words[0] in VERBS
    if not is_open(words[1:]):
        given = [word.replace("$path_type", "trusted_path") for word in words]
        status, said = exit_of(main, [*given, "--dry-run"]), capsys.readouterr().err
        # A dry run checks what it reads, after its options; runs and data are not here.
        assert status == 0 or "does not exist" in said, said


@pytest.mark.parametrize("command", INLINE, ids=str)
def test_a_command_in_running_text_has_the_verb_and_options_it_names(command, capsys):
    words = command.words()
    assert has_known_options(main, VERBS, words, capsys)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_scripts_and_modules_exist(path):
    assert absent_files(path, "scripts", "benchmarks", "tests", "published", "prevalent") == []


def test_the_readme_lists_every_verb():
    text = (ROOT / "README.md").read_text()
    assert {verb for verb in VERBS if f"prevalent {verb}" not in text} == set()


def test_every_dependency_is_given_a_reason():
    names = dependencies()
    assert len(names) <= 12
    text = (ROOT / "README.md").read_text()
    assert [name for name in names if name not in text] == []


def test_help_imports_nothing_heavy():
    text = help_without_imports("prevalent")
    assert [verb for verb in VERBS if verb not in text] == []


@pytest.mark.parametrize(
    ("name", "block"), python_blocks(), ids=lambda value: value.partition("\n")[0]
)
def test_python_in_a_document_runs(toy_world, tmp_path, monkeypatch, name, block):
    (tmp_path / "data").symlink_to(toy_world)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, name, "exec"), {"__name__": "document"})
