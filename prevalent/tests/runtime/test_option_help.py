import re
from dataclasses import dataclass, field, make_dataclass

import pytest

from prevalent.runtime.command import parse, parse_preset
from prevalent.runtime.option_help import READABLE, show_help

OPTION = r"(?m)^[│| ]*--([a-z][\w.]*) "


def group(letter, size):
    return make_dataclass(
        letter.upper(), [(f"{letter}{i}", int, field(default=i)) for i in range(size)], frozen=True
    )


First, Second = group("first", READABLE - 1), group("second", 3)


@dataclass(frozen=True)
class Many:
    """What it does."""

    seed: int = 0
    one: First = field(default_factory=First)
    two: Second = field(default_factory=Second)


@dataclass(frozen=True)
class Few:
    """What it does."""

    seed: int = 0
    two: Second = field(default_factory=Second)


PRESETS = {"small": ("a row", Many()), "other": ("a row", Many())}


def shown(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        parse_preset(PRESETS, ["small", *words], "prog train")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    return set(re.findall(OPTION, text)), text


def test_a_long_help_comes_group_by_group(capsys):
    names, text = shown(capsys, "--help")
    assert names == {"seed"}
    assert "groups one, two" in " ".join(re.sub(r"[│╭╮╰╯]", " ", text).split())
    assert "prog train small" in text
    assert shown(capsys, "--help", "two")[0] == {f"two.second{i}" for i in range(3)}
    assert len(shown(capsys, "--help", "all")[0]) == READABLE + 3


def test_a_short_help_shows_everything(capsys):
    with pytest.raises(SystemExit):
        parse(Few, ["--help"], "prog score", default=Few())
    names = set(re.findall(OPTION, capsys.readouterr().out))
    assert names == {"seed", "two.second0", "two.second1", "two.second2"}


def test_commands_without_presets_show_their_groups_too(capsys):
    with pytest.raises(SystemExit):
        parse(Many, ["--help"], "prog score", default=Many())
    assert set(re.findall(OPTION, capsys.readouterr().out)) == {"seed"}


def test_an_unknown_group_is_named():
    with pytest.raises(ValueError, match="--help layers: choose one of one, two, all"):
        parse_preset(PRESETS, ["small", "--help", "layers"], "prog train")


def test_nothing_is_shown_unasked():
    show_help("prog train", Many(), ["--seed", "1"])
