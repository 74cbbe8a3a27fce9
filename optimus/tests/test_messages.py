"""Every option that a message or a document names exists in the command that it speaks of."""

import ast
import dataclasses
import re
import types
import typing

import pytest
import tyro
from documents import DOCUMENTS, INDENTED
from project import CODE, FOREIGN, LINES, OTHERS, PROG, WHERE, main

OPTION = re.compile(r"(?<![\w<-])--([A-Za-z][\w.-]*)")
COMMAND = re.compile(rf"`+{PROG} ([^`]*)`+")
ALWAYS = {"help", "version", "dry-run"}
FILES = sorted(path for path in CODE.rglob("*.py") if path.name not in FOREIGN)


def options(kind, prefix=""):
    """Names of all options below the dataclass ``kind``, as they are written."""
    names = set()
    for field in dataclasses.fields(kind):
        hint = typing.get_type_hints(kind, include_extras=True)[field.name]
        name = prefix + field.name.replace("_", "-")
        for detail in getattr(hint, "__metadata__", ()):
            if getattr(detail, "name", None):
                name = prefix + detail.name
            names |= {alias.lstrip("-") for alias in getattr(detail, "aliases", None) or ()}
        groups = [one for one in parts(hint) if dataclasses.is_dataclass(one)]
        for group in groups:
            names |= options(group, f"{name}.")
        if not groups:
            names |= {name, f"{prefix}no-{name.removeprefix(prefix)}"}
    return names


def parts(hint):
    """The types that an annotation is made of."""
    if typing.get_origin(hint) in (typing.Annotated, typing.Union, types.UnionType):
        return [part for one in typing.get_args(hint) for part in parts(one)]
    return [hint] if isinstance(hint, type) else []


def of_command(words):
    """The options of one command line, as its parser is asked for them."""
    found = set()

    def cli(kind, **_):
        for one in parts(kind):
            found.update(options(one))
        raise SystemExit(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tyro, "cli", cli)
        with pytest.raises(SystemExit) as ended:
            main(words)
    assert ended.value.code == 0, words
    return found


@pytest.fixture(scope="module")
def known():
    """Options by line, ``prepare toy``, and by verb, ``prepare``; all under the empty word."""
    found = {}
    for line in LINES:
        names = of_command(line.split()) | ALWAYS
        for key in ("", line.split()[0], line):
            found[key] = found.get(key, set()) | names
    return found


def texts(path):
    """Line numbers and texts of a module; what an f-string fills in is ``{}``."""
    tree = ast.parse(path.read_text())
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in node.values}
            pieces = [one.value if isinstance(one, ast.Constant) else "{}" for one in node.values]
            yield node.lineno, "".join(map(str, pieces))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value


def absent(text, known, where):
    """Options in ``text`` that are in no command that it can speak of."""
    found = []

    def check(part, names):
        for match in OPTION.finditer(part):
            name = match[1].rstrip(".-")
            style = part[match.end() : match.end() + 2] == ": " and f"var(--{name})" in part
            open_end = part[match.end() : match.end() + 1] in ("{", "*") or match[1] != name
            exists = name in names or (open_end and any(one.startswith(name) for one in names))
            if not (exists or style or name in OTHERS or f"var(--{name}" in part):
                found.append(f"--{name}")

    for match in COMMAND.finditer(text):
        words = match[1].split() or [""]
        if words[0] == "migrate":  # what follows are the authors'
            continue
        line = " ".join(words[:2])
        key = line if line in known else words[0]
        check(match[1], known.get(key, known[""]))
    alone = OPTION.fullmatch(text) is not None  # a word of a command line, perhaps another's
    check(COMMAND.sub("", text), known[""] if alone else where)
    return found


def test_commands_have_options(known):
    assert {line.split()[0] for line in LINES} <= known.keys()
    assert [
        line for line, names in known.items() if len(names) == len(ALWAYS) and " " not in line
    ] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CODE)))
def test_an_option_in_a_message_exists(path, known):
    name = str(path.relative_to(CODE))
    keys = [key for place, keys in WHERE.items() if name.startswith(place) for key in keys]
    names = set().union(*(known[key] for key in keys or [""]))
    wrong = [(line, option) for line, text in texts(path) for option in absent(text, known, names)]
    assert not wrong


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_an_option_in_a_document_exists(path, known):
    if path.name in FOREIGN:
        pytest.skip("speaks of the authors' options")
    text = re.sub(r"^```\w*\n.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`python [^`]*`", "", INDENTED.sub("", text))  # scripts have their own
    text = re.sub(r"^\|[^|]*\|", "|", text, flags=re.MULTILINE)  # what a table is about: theirs
    assert not absent(re.sub(r"\s+", " ", text), known, known[""])


def test_a_wrong_option_is_found(known):
    assert absent("give --no-such-option", known, known[""]) == ["--no-such-option"]
    verb = LINES[0].split()[0]
    assert absent(f"as in `{PROG} {verb} --bogus 1`", known, known[""]) == ["--bogus"]
    assert absent("--{}", known, known[""]) == []


def test_no_message_asks_to_delete_a_file():
    """What cannot be read may be somebody's only copy: it is to be moved away, or another given."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"\bdelete it\b", node.value), f"{path.name}: {node.value!r}"
