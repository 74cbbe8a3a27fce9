"""Options that are too small or no number are named as on the command line."""

import math
import re
from dataclasses import dataclass, field, make_dataclass
from types import SimpleNamespace

import pytest

from fqgan.runtime.command import parse, parse_preset
from fqgan.runtime.options import READABLE, at_least, option, positive, show_help


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        (lambda one: at_least(one, num_layers=2), "--num-layers must be at least 2, got 1"),
        (lambda one: at_least(one, "model", num_layers=2), "--model.num-layers must be at least 2"),
        (lambda one: at_least(one, weight=0), "--weight must not be negative, got -1"),
        (lambda one: at_least(one, nan=0), "--nan must not be negative, got nan"),
        (lambda one: positive(one, "", "zero"), "--zero must be positive, got 0"),
        (lambda one: positive(one, "", "nan"), "--nan must be positive, got nan"),
        (lambda one: positive(one, "", "inf"), "--inf must be finite, got inf"),
    ],
)
def test_the_option_is_named_with_what_it_must_be(check, sentence):
    config = SimpleNamespace(num_layers=1, weight=-1, zero=0, nan=math.nan, inf=math.inf)
    with pytest.raises(ValueError, match=sentence):
        check(config)


def test_a_field_is_written_as_on_the_command_line():
    assert (option("lr"), option("max_words", "data")) == ("--lr", "--data.max-words")


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
