"""``--help`` of every command is a page that a person can read."""

import re

import pytest
from documents import exit_of
from project import LINES, PROG, main

VERBS = sorted({line.split()[0] for line in LINES})
LINES_AT_MOST = 130
WIDTH_AT_MOST = 100
OPTION = re.compile(r"^ *(--[\w.-]+)")


def page(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH_AT_MOST))
    assert exit_of(main, words) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return [line.strip("│╭╰╮╯─").rstrip() for line in printed.out.splitlines()]


def faults(lines):
    """What keeps ``lines`` from being a page to read."""
    if not lines[0].startswith(f"usage: {PROG} "):
        yield f"no usage: {lines[0]!r}"
    if len(lines) > LINES_AT_MOST:
        yield f"{len(lines)} lines"
    body = [line for line in lines[1:] if line.strip()]
    if not body or re.match(r" *(options|subcommands|positional)", body[0]):
        yield "no description"
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if "[[" in line or ("{None}" in line and len(line) > 2 * WIDTH_AT_MOST):
            yield f"a parser's brackets: {line!r}"
        found = OPTION.match(line)
        if found and not line[found.end() :].strip() and not following.strip():
            yield f"{found[1]} is not explained"


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_is_a_page(verb, capsys, monkeypatch):
    assert list(faults(page([verb, "--help"], capsys, monkeypatch))) == []


@pytest.mark.parametrize("line", [one for one in LINES if " " in one])
def test_the_help_behind_a_name_is_a_page(line, capsys, monkeypatch):
    assert list(faults(page([*line.split(), "--help"], capsys, monkeypatch))) == []
