"""The command line answers mistakes with one sentence and a status."""

import os
import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from fqgan.runtime.command import Stopped, choose, parse, parse_preset, run_command


@dataclass(frozen=True)
class Inner:
    """Part of the options."""

    size: int = 3
    """How large."""
    kind: Literal["a", "b"] = "a"
    """Which."""


@dataclass(frozen=True)
class Options:
    """All options."""

    lr: float = 0.1
    """Learning rate."""
    inner: Inner = Inner()

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"--lr must be above 0, got {self.lr}")


PRESETS = {"small": ("A row.", Options()), "large": ("Another.", Options(inner=Inner(9)))}


def run(function, monkeypatch):
    module = types.ModuleType("verb_under_test")
    module.main = function
    monkeypatch.setitem(sys.modules, "verb_under_test", module)
    with pytest.raises(SystemExit) as ended:
        run_command("prog", {"go": ("verb_under_test:main", "Go.")}, ["go", "x"])
    return ended.value.code


def test_a_verb_gets_the_remaining_words(monkeypatch):
    seen = []
    assert run(seen.append, monkeypatch) == 0
    assert seen == [["x"]]


@pytest.mark.parametrize(
    "error", [ValueError("--lr must\nbe above 0"), FileNotFoundError("no file a.txt")]
)
def test_an_error_of_the_user_is_one_sentence_and_status_2(error, monkeypatch, capsys):
    def fail(_):
        raise error

    assert run(fail, monkeypatch) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("prog go: ")
    assert printed.count("\n") == 1
    assert "Traceback" not in printed


def test_a_stop_by_signal_has_its_own_status(monkeypatch):
    def stop(_):
        raise Stopped("saved")

    assert run(stop, monkeypatch) == 3


def test_our_own_mistake_keeps_its_traceback(monkeypatch):
    def wrong(_):
        raise AssertionError("ours")

    with pytest.raises(AssertionError):
        run(wrong, monkeypatch)


def test_an_unknown_verb_names_the_known_ones(capsys):
    with pytest.raises(SystemExit, match="2"):
        run_command("prog", {"go": ("m:f", "Go.")}, ["fly"])
    assert "unknown verb 'fly'; choose one of go" in capsys.readouterr().err


def test_help_lists_the_verbs(capsys):
    with pytest.raises(SystemExit, match="0"):
        run_command("prog", {"go": ("m:f", "Go there.")}, ["--help"])
    assert "go  Go there." in capsys.readouterr().out


def test_a_preset_with_overrides():
    config = parse_preset(PRESETS, ["large", "--lr", "0.5"], "prog")
    assert config == Options(lr=0.5, inner=Inner(9))
    assert parse_preset(PRESETS, ["small", "--inner.size", "4"], "prog").inner.size == 4


def test_an_unknown_preset_is_one_sentence():
    with pytest.raises(ValueError, match="unknown preset 'tiny'; choose one of small, large"):
        parse_preset(PRESETS, ["tiny"], "prog")


@pytest.mark.parametrize("words", [[], ["--lr", "1"], ["--dry-run"], ["--lr", "1", "small"]])
def test_a_preset_comes_before_the_options(words):
    with pytest.raises(ValueError, match="a preset comes first, before any option"):
        parse_preset(PRESETS, words, "prog")


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_lists_the_presets(word, capsys):
    with pytest.raises(SystemExit, match="0"):
        parse_preset({**PRESETS, "tall": PRESETS["large"]}, [word], "prog")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["usage: prog PRESET [OPTIONS]", "", "All options."]
    assert "  small        A row." in lines
    assert "  large, tall  Another." in lines


def test_a_name_is_chosen_and_the_other_words_are_left_alone():
    assert choose({"a": "One."}, ["a", "--help"], "prog", "corpus", "Text.") == ("a", ["--help"])


def test_dry_run_prints_the_configuration_and_leaves(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse(Options, ["--lr", "0.25", "--dry-run"], "prog")
    assert '"lr": 0.25' in capsys.readouterr().out


@dataclass(frozen=True)
class Loose:
    """Options that check nothing themselves."""

    place: str
    """Where."""
    seed: int = 0
    """Of all draws."""
    seeds: tuple[int, ...] = (0,)
    """Of some."""
    share: float = 0.5
    """How much."""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", "-1"], r"^--seed must not be negative, got -1$"),
        (["--seeds", "3", "-2"], r"^--seeds must not be negative, got -2$"),
        (["--share", "nan"], r"^--share must be a number, got nan$"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_negative_seed_and_nan_are_refused_for_every_command(words, said, more):
    with pytest.raises(ValueError, match=said):
        parse(Loose, ["--place", "a", *words, *more], "prog")


def test_a_missing_option_is_named():
    with pytest.raises(ValueError, match=r"^--place is required \(`prog --help`"):
        parse(Loose, [], "prog")


@dataclass(frozen=True)
class Placed:
    """Options with two places."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """What to read."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder of ``config.json``."""
    note: str = ""
    """Any text."""


def test_a_place_that_lacks_or_is_empty_is_named():
    both = (
        r"^`prog` lacks SOURCE \(What to read\) and OUT \(Folder of config\.json\) \(`prog --help`"
    )
    for words, said in (
        ([], both),
        (["a"], r"^`prog` lacks OUT \(Folder of config\.json\) \("),
        (["", "b"], "^SOURCE is empty: give a file or folder"),
        (["a", "", "--note", ""], "^OUT is empty: give a file or folder"),
    ):
        with pytest.raises(ValueError, match=said):
            parse(Placed, words, "prog")
    assert parse(Placed, [".", "b", "--note", ""], "prog") == Placed(Path(), Path("b"))


def test_an_option_that_would_not_be_used_is_refused_where_it_is_given():
    def unused(config):
        return {"--inner.": "lr is low"} if config.lr < 1 else {"--lr": "it is high"}

    for words, said in (
        (["large", "--inner.size", "3"], r"^--inner\.size is not used: lr is low$"),
        (["large", "--inner.size=3", "--dry-run"], r"^--inner\.size is not used: lr is low$"),
        (["small", "--lr", "2"], "^--lr is not used: it is high$"),
    ):
        with pytest.raises(ValueError, match=said):
            parse_preset(PRESETS, words, "prog", unused)
    assert parse_preset(PRESETS, ["large"], "prog", unused).inner.size == 9


HINT = r" \(`prog --help` lists the options\)$"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--lr", "-1"], r"^--lr must be above 0, got -1\.0"),
        (["--lr", "fast"], "^--lr takes a number, got 'fast'"),
        (["--inner.size", "2.5"], r"^--inner\.size takes a whole number, got '2\.5'"),
        (["--inner.kind", "c"], r"^--inner\.kind 'c': choose one of a, b"),
        (
            ["--inner.sise", "3"],
            r"^unknown options: --inner\.sise, 3; did you mean --inner\.size\?",
        ),
        (["--lr"], "^missing value for argument '--lr'. Expected 1 values"),
        (["--speed", "3"], "^unknown options: --speed, 3"),
    ],
)
def test_what_the_parser_refuses_is_one_plain_sentence(words, sentence, capsys):
    with pytest.raises(ValueError, match=f"{sentence}{HINT}") as refused:
        parse(Options, words, "prog")
    assert not set("╭│─\n") & set(str(refused.value))
    assert capsys.readouterr().err == ""


def test_a_long_path_in_a_sentence_stays_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    path = str(tmp_path / ("x" * 90) / "file.txt")
    with pytest.raises(ValueError, match=f"takes a number, got '{path}'"):
        parse(Options, ["--lr", path], "prog")
    assert os.environ["COLUMNS"] == "40"


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit, match="0"):
        run_command("prog", {}, ["--version"])
    assert re.fullmatch(r"prog \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)
