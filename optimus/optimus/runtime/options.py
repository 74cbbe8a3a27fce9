"""Options of a command: checks said in the words of the command line, and their ``--help``.

``--help`` shows one group at a time where all of them are too many to read.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError`` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ValueError(message)


def whole_number(value: object, name: str, least: int = 0) -> int:
    """``value`` of the argument ``name``, an integer of at least ``least``.

    Raises:
        TypeError: it is no integer; neither a boolean nor 8.0 is one.
        ValueError: it is too small.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    require(int(value) >= least, f"{name} must {_at_least(least)}, got {value}")
    return int(value)


def finite_number(value: object, name: str, least: float = -math.inf) -> float:
    """``value`` of the argument ``name``, a finite number of at least ``least``.

    Raises:
        TypeError: it is no number.
        ValueError: it is NaN, infinite or too small.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = float(value)
    require(math.isfinite(number), f"{name} must be finite, got {value}")
    require(number >= least, f"{name} must {_at_least(least)}, got {value}")
    return number


def require_choice(name: str, value: object, known: Any) -> None:
    """Raise ``ValueError`` unless ``value`` is one of those of ``known``, a ``Literal``."""
    choices = ", ".join(map(str, get_args(known)))
    require(value in get_args(known), f"{name} must be one of {choices}, got {value!r}")


def _at_least(least: float) -> str:
    return f"be at least {least}" if least else "not be negative"


def at_least(config: object, section: str = "", /, **lowest: float) -> None:
    """Raise an error naming the first option of ``config`` that is too small or no such number.

    Args:
        config: dataclass of options.
        section: its name on the command line, empty for the options of the command itself.
        lowest: field -> its smallest value; what is declared as ``int`` must be a whole number.

    Raises:
        TypeError, ValueError: see `whole_number` and `finite_number`.
    """
    types = {name: one.type for name, one in getattr(config, "__dataclass_fields__", {}).items()}
    for name, least in lowest.items():
        check = whole_number if types.get(name) in (int, "int") else finite_number
        check(getattr(config, name), option(name, section), cast(Any, least))


def positive(config: object, section: str = "", /, *names: str) -> None:
    """Raise ``ValueError`` naming the first of the fields ``names`` that is not above 0."""
    for name in names:
        value = finite_number(getattr(config, name), option(name, section))
        require(value > 0, f"{option(name, section)} must be positive, got {value}")


def option(name: str, section: str = "") -> str:
    """The field ``name`` as it is written on the command line."""
    return f"--{section}{'.' if section else ''}{name.replace('_', '-')}"


def refuse_unused(argv: Sequence[str], unused: Mapping[str, str]) -> None:
    """Raise ``ValueError`` naming the first option of ``argv`` that would be recorded and not used.

    Args:
        argv: the words of a command line.
        unused: option, or the name of a group up to its dot -> why it is not used, and the cure.
    """
    for word in argv:
        name = word.partition("=")[0].replace("_", "-")
        if reason := why_unused(name, unused):
            raise ValueError(f"{name} is not used: {reason}")


def why_unused(name: str, unused: Mapping[str, str]) -> str:
    """Why ``name``, an option or what turns it off, is not used (see `refuse_unused`), or ""."""
    names = {name, re.sub(r"(^--|\.)no-", r"\1", name)}
    for given, reason in unused.items():
        if given in names or (given.endswith(".") and name.startswith(given)):
            return reason
    return ""


def shown(value: object) -> str:
    """``value`` as one writes it on the command line: in quotes where it is empty or has spaces."""
    return shlex.quote(str(value))


ADDED = {"added": True}
"""Metadata of an option that came after runs were written: where a ``config.json`` lacks it, it has
its default, which is what those runs did."""


HELP = ("-h", "--help")
EVERYTHING = "all"
READABLE = 35
"""A command with no more options shows them all at once."""


def show_help(prog: str, config: Any, argv: Sequence[str]) -> None:
    """Print what ``--help``, ``--help GROUP`` or ``--help all`` asks for, and exit, if it is there.

    Args:
        prog: the command, with its preset where it takes one.
        config: its defaults, a dataclass in which groups of options are dataclasses too, if known.
        argv: the words behind ``prog``.

    Raises:
        ValueError: there is no such group.
    """
    places = [i for i, word in enumerate(argv) if word in HELP]
    if not places or config is None or _count(config) <= READABLE:
        return
    topic = "".join(argv[places[0] + 1 : places[0] + 2])
    topic = "" if topic.startswith("-") else topic
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    groups = [name for name, value in values.items() if dataclasses.is_dataclass(value)]
    hidden = {
        "": set(groups),
        EVERYTHING: set(),
        **{group: set(values) - {group} for group in groups},
    }
    if topic not in hidden:
        raise ValueError(f"--help {topic}: choose one of {', '.join(groups)}, {EVERYTHING}")
    _print(prog, config, values, hidden[topic], "" if topic else _footer(groups))


def _count(config: Any) -> int:
    """The options of a command, those in groups included."""
    values = [getattr(config, field.name) for field in dataclasses.fields(config)]
    return sum(_count(value) if dataclasses.is_dataclass(value) else 1 for value in values)


def _footer(groups: Sequence[str]) -> str:
    return (
        f"\n\nFurther options are in the groups {', '.join(groups)}: --help GROUP shows one of "
        f"them, --help {EVERYTHING} everything."
    )


def _print(prog: str, config: Any, values: dict[str, Any], hidden: set[str], footer: str) -> None:
    import tyro

    kind, suppress = type(config), cast(Any, tyro.conf.Suppress)
    fields: list[Any] = [
        (name, suppress[type(values[name])], dataclasses.field(default=values[name]))
        for name in values
        if name in hidden
    ]
    shown: Any = dataclasses.make_dataclass(
        kind.__name__, fields, bases=(kind,), frozen=True,
        namespace={"__doc__": (kind.__doc__ or "") + footer},
    )  # fmt: skip
    tyro.cli(shown, default=shown(**values), prog=prog, args=["--help"])
