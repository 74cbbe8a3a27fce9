"""The command line: verbs, presets, and errors as one sentence.

Exit status: 0 done, 2 the user can mend it (one sentence on stderr), 3 stopped by a signal after a
checkpoint. A signal that comes before a run has begun ends the program with the shell's 128 + N.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import logging
import math
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from .files import json_text, spell_infinite
from .options import HELP, refuse_unused, show_help, shown

Config = TypeVar("Config")
DRY_RUN = "--dry-run"
SAID: tuple[tuple[str, Any], ...] = (
    (
        r"^(--\S+): invalid literal for int\(\) with base 10: (.*)",
        r"\1 takes a whole number, got \2",
    ),
    (r"^(--\S+): could not convert string to float: (.*)", r"\1 takes a number, got \2"),
    (
        r"^[Ii]nvalid choice (.*) for argument '(--\S+)'\. Expected one of \((.*?),?\)",
        r"\2 \1: choose one of \3",
    ),
    (r"^[Mm]issing from [^:]*: (--[\w.-]+).*", r"\1 is required"),
    (r"^[Mm]issing from ([^:]*): (.*)", lambda found: f"`{found[1]}` lacks {_places(found[2])}"),
    (r"^[Uu]nrecognized options: ", "unknown options: "),
    (r"(choose one of .*)", lambda found: found[1].replace("'", "")),
)
"""What the parser says, and what it means."""

USER_ERRORS = (ValueError, FileNotFoundError, OSError, FloatingPointError, ImportError)


class Stopped(Exception):
    """The run was asked to stop; its state is saved."""


def run_command(
    prog: str, verbs: Mapping[str, tuple[str, str]], argv: Sequence[str] | None = None
) -> NoReturn:
    """Run ``prog VERB ...`` and exit; the module behind a verb is imported only when it is used.

    ``verbs`` maps a verb to ("package.module:function", help); the function gets the other words.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in {"-h", "--help"}:
        lines = (f"  {verb:<{max(map(len, verbs))}}  {text}" for verb, (_, text) in verbs.items())
        more = f"\n`{prog} VERB --help` lists the presets and options of a verb."
        print(f"usage: {prog} VERB ...", "", "verbs:", *lines, more, sep="\n")
        raise SystemExit(0)
    if words[0] == "--version":
        package = importlib.import_module(__name__.partition(".")[0])
        print(prog, package.__version__)
        raise SystemExit(0)
    if words[0] not in verbs:
        _fail(prog, f"unknown verb {words[0]!r}; choose one of {', '.join(verbs)}")
    module, function = verbs[words[0]][0].split(":")
    try:
        getattr(importlib.import_module(module), function)(words[1:])
    except Stopped as stopped:
        print(f"{prog}: {stopped}", file=sys.stderr)
        raise SystemExit(3) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
    except USER_ERRORS as error:
        if os.environ.get("TRACEBACK"):
            raise
        _fail(f"{prog} {words[0]}", _said_by(error) or type(error).__name__)
    raise SystemExit(0)


def _said_by(error: Exception) -> str:
    """The sentence of ``error``; those of the operating system name the file first."""
    if not isinstance(error, OSError) or error.filename is None or error.strerror is None:
        return str(error)
    path = Path(str(error.filename))
    if isinstance(error, FileExistsError | NotADirectoryError):
        files = [one for one in (path, *path.parents) if one.is_file()]
        if files:
            return f"{files[0]} is a file where a folder is needed; give another place"
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder where a file is needed; name a file"
    return f"{shown(path)}: {error.strerror.lower()}"


def _fail(prog: str, message: str) -> NoReturn:
    print(f"{prog}: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def parse_preset(
    presets: Mapping[str, tuple[str, Config]],
    argv: Sequence[str],
    prog: str,
    unused: Callable[[Config], Mapping[str, str]] = lambda _: {},
) -> Config:
    """Read ``PRESET --option value ...``; ``--dry-run`` prints the checked result and exits.

    ``unused`` says which options a run would not use; given here they are refused, while a preset
    may hold them (see `refuse_unused`).
    """
    import tyro

    about = dict.fromkeys(config.__doc__ or "" for _, config in presets.values())
    texts = {preset: text for preset, (text, _) in presets.items()}
    preset, words = choose(texts, argv, prog, "preset", "\n".join(map(_first_line, about)))
    prog, default = f"{prog} {preset}", presets[preset][1]
    words = [word for word in words if word != DRY_RUN]
    options: Any = {"default": default, "config": (tyro.conf.AvoidSubcommands,)}
    with _one_sentence(words, prog):
        show_help(prog, default, words)
        config = tyro.cli(type(default), prog=prog, args=words, **options)
    _require_names(config, words)
    refuse_unused(words, unused(config))
    return _maybe_print(config, DRY_RUN in argv)


def choose(
    names: Mapping[str, str], argv: Sequence[str], prog: str, what: str, about: str
) -> tuple[str, list[str]]:
    """The first word of ``argv``, one of ``names``, and the words behind it.

    Args:
        names: to choose from, with a sentence each; those of one sentence are listed together.
        argv: the words behind ``prog``; ``--help`` in the first place lists ``names`` and exits.
        prog: the command.
        what: the kind of the names, such as "preset".
        about: what the command does.

    Raises:
        ValueError: there is no name, or an unknown one.
    """
    first = argv[0] if argv else ""
    if first in names:
        return first, list(argv[1:])
    kind = what.upper().replace(" ", "-")
    if first in HELP:
        print(f"usage: {prog} {kind} [OPTIONS]\n\n{about}\n\n{what}s:")
        print(*_listed(names), sep="\n")
        print(f"\n`{prog} {kind} --help` lists the options of one.")
        raise SystemExit(0)
    alike = [name for name in names if name.split("-")[0] == first.split("-")[0]]
    some = (alike or list(names))[:8]
    which = "choose one of" if len(some) == len(names) else f"`{prog} --help` lists all, such as"
    hint = f"{which} {', '.join(some)}"
    if not first or first.startswith("-"):
        raise ValueError(f"a {what} comes first, before any option; {hint}")
    raise ValueError(f"unknown {what} {first!r}; {hint}")


def _listed(names: Mapping[str, str]) -> Iterator[str]:
    """Lines of a help page: names and what they stand for, those of one sentence together."""
    together: dict[str, list[str]] = {}
    for name, text in names.items():
        together.setdefault(text, []).append(name)
    width = min(24, max(len(", ".join(alike)) for alike in together.values()))
    for text, alike in together.items():
        *before, last = textwrap.wrap(", ".join(alike), 76)
        yield from (f"  {line}" for line in before)
        if len(last) > width:
            yield f"  {last}"
            last = ""
        wrapped = textwrap.wrap(text, max(30, 96 - width)) or [""]
        yield f"  {last:<{width}}  {wrapped[0]}".rstrip()
        yield from (f"  {'':<{width}}  {line}" for line in wrapped[1:])


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def parse(
    kind: Callable[..., Config],
    argv: Sequence[str],
    prog: str,
    *,
    unused: Callable[[Config], Mapping[str, str]] = lambda _: {},
    **options: Any,
) -> Config:
    """Read the options of ``kind``, a frozen dataclass; the rest is as in `parse_preset`."""
    import tyro

    words = [word for word in argv if word != DRY_RUN]
    show_help(prog, options.get("default"), words)
    with _one_sentence(words, prog):
        config = tyro.cli(kind, args=words, prog=prog, **options)
    _require_names(config, words)
    refuse_unused(words, unused(config))
    return _maybe_print(config, DRY_RUN in argv)


@contextmanager
def _one_sentence(words: Sequence[str], prog: str) -> Iterator[None]:
    """Turn the parser's box of complaints into the sentence of a ``ValueError``."""
    complaint = io.StringIO()
    wide = {} if set(words) & set(HELP) else {"COLUMNS": "100000"}  # no path is broken over lines
    with redirect_stderr(complaint), _environment(wide):
        try:
            yield
        except SystemExit as ended:
            if not ended.code:
                raise
            raise ValueError(_sentence(complaint.getvalue(), prog)) from None


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _sentence(box: str, prog: str) -> str:
    """What tyro's box of complaints says, without its title, its frame and the help it repeats."""
    _, *lines = box.replace("__tyro-dummy-inner__.", "").splitlines()
    parts: list[list[str]] = [[]]
    for line in lines:
        text = line.strip("│╰╯ ")
        if set(text) <= set("─-"):
            parts.append([])
        else:
            parts[-1].append(text)
    parts = [part for part in parts if part]
    sentence = " ".join(parts[0]).rstrip(".")
    sentence = re.sub(r"^Error parsing (?!--)[^:]+: ", "", sentence)
    sentence = re.sub(r"^Error parsing (--\S+): ", r"\1: ", sentence)
    for said, meant in SAID:
        sentence = re.sub(said, meant, sentence)
    hints = [text for part in parts[1:] if part[0] == "Perhaps you meant:" for text in part]
    near = [text.split()[0].rstrip(",") for text in hints if text.startswith("--")]
    if near:
        sentence += f"; did you mean {' or '.join(near[:3])}?"
    return f"{sentence[:1].lower()}{sentence[1:]} (`{prog} --help` lists the options)"


def _places(text: str) -> str:
    """``PATH A file. (required) PATH ...`` of the parser as one part of a sentence."""
    parts = [one.strip().replace("``", "") for one in text.split("(required)") if one.strip()]
    pairs = (one.partition(" ")[::2] for one in parts)
    return " and ".join(f"{name} ({about.rstrip('. ')})" for name, about in pairs)


def _require_names(config: Any, words: Sequence[str]) -> None:
    """Refuse an option for a file or folder with an empty value, which would be the one here."""
    for word, following in pairwise([*words, "-"]):
        name, sign, value = word.partition("=")
        if name.startswith("--") and not (value if sign else following):
            given = config
            for part in name[2:].replace("-", "_").split("."):
                given = getattr(given, part, Path())  # another name of an option for a folder
            values = given if isinstance(given, tuple) else (given,)
            if any(isinstance(one, Path) for one in values):
                raise ValueError(f"{name} is empty: give a file or folder, or leave it out")
    if (
        dataclasses.is_dataclass(config)
        and "" in words
        and not any(word and Path(word) == Path() for word in words)
    ):
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            given = value if isinstance(value, tuple) else (value,)
            if field.default is dataclasses.MISSING and Path() in given:
                raise ValueError(f"{field.name.upper()} is empty: give a file or folder")


def _require_sound(config: Any, prefix: str = "--") -> None:
    """Refuse what no option can mean: a number that is NaN, a negative seed."""
    if not dataclasses.is_dataclass(config):
        return
    for field in dataclasses.fields(config):
        name, value = prefix + field.name.replace("_", "-"), getattr(config, field.name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, float) and math.isnan(one):
                raise ValueError(f"{name} must be a number, got nan")
            if field.name in ("seed", "seeds") and isinstance(one, int) and one < 0:
                raise ValueError(f"{name} must not be negative, got {one}")
        _require_sound(value, f"{name}.")


def _maybe_print(config: Config, dry_run: bool) -> Config:
    _require_sound(config)
    if dry_run:
        options = dataclasses.asdict(config)  # type: ignore[call-overload]
        print(json_text(spell_infinite(options), indent=2))
        raise SystemExit(0)
    return config
