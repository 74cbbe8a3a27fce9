"""Options that are too small or no number are named as on the command line."""

import math
import re
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from optimus.runtime.command import parse, parse_preset
from optimus.runtime.options import (
    READABLE,
    at_least,
    finite_number,
    option,
    positive,
    refuse_unused,
    show_help,
    shown,
    whole_number,
)


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        (lambda one: at_least(one, num_layers=2), "--num-layers must be at least 2, got 1"),
        (lambda one: at_least(one, "model", num_layers=2), "--model.num-layers must be at least 2"),
        (lambda one: at_least(one, weight=0), "--weight must not be negative, got -1"),
        (lambda one: at_least(one, nan=0), "--nan must be finite, got nan"),
        (lambda one: positive(one, "", "zero"), "--zero must be positive, got 0"),
        (lambda one: positive(one, "", "nan"), "--nan must be finite, got nan"),
        (lambda one: positive(one, "", "inf"), "--inf must be finite, got inf"),
    ],
)
def test_the_option_is_named_with_what_it_must_be(check, sentence):
    config = SimpleNamespace(num_layers=1, weight=-1, zero=0, nan=math.nan, inf=math.inf)
    with pytest.raises(ValueError, match=sentence):
        check(config)


@pytest.mark.parametrize("value", [8.5, "8", True, None])
def test_a_whole_number_is_nothing_else(value):
    with pytest.raises(TypeError, match=re.escape(f"size must be a whole number, got {value!r}")):
        whole_number(value, "size")


def test_the_fields_of_a_dataclass_are_of_their_types():
    for value in (1.5, "2", True):
        with pytest.raises(TypeError, match="--seed must be a whole number"):
            at_least(Few(seed=value), seed=0)
    with pytest.raises(TypeError, match="weight must be a number, got '2'"):
        finite_number("2", "weight")


def test_an_empty_value_is_shown_and_one_for_a_file_is_refused():
    assert (shown(""), shown("a b"), shown("a")) == ("''", "'a b'", "a")
    for words in (["--place", ""], ["--place="]):
        with pytest.raises(ValueError, match="--place is empty: give a file or folder"):
            parse(Placed, words, "prog")
    assert parse(Placed, ["--place", "x", "--name", ""], "prog").name == ""
    assert parse(Placed, [], "prog").place == Path("here")


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
class Placed:
    """What it does."""

    place: Path = Path("here")
    """Where."""
    name: str = "none"
    """Who."""


@dataclass(frozen=True)
class Few:
    """What it does."""

    seed: int = 0
    two: Second = field(default_factory=Second)


PRESETS = {"small": ("a row", Many()), "other": ("a row", Many())}


def page_of(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        parse_preset(PRESETS, ["small", *words], "prog train")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    return set(re.findall(OPTION, text)), text


def test_a_long_help_comes_group_by_group(capsys):
    names, text = page_of(capsys, "--help")
    assert names == {"seed"}
    assert "groups one, two" in " ".join(re.sub(r"[│╭╮╰╯]", " ", text).split())
    assert "prog train small" in text
    assert page_of(capsys, "--help", "two")[0] == {f"two.second{i}" for i in range(3)}
    assert len(page_of(capsys, "--help", "all")[0]) == READABLE + 3


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


@pytest.mark.parametrize(
    "word", ["--model.bias", "--model.no-bias", "--model.no_bias", "--lora.rank=3", "--lora.no-a"]
)
def test_an_option_without_an_effect_is_refused_switched_on_or_off(word):
    unused = {"--model.bias": "it is off", "--lora.": "it is off"}
    refuse_unused(["--model.nobias", "--bias", "--lora"], unused)
    name = word.partition("=")[0].replace("_", "-")
    with pytest.raises(ValueError, match=rf"^{name} is not used: it is off$"):
        refuse_unused(["--seed", "1", word], unused)
