"""Checks of options, said in the words of the command line."""

from __future__ import annotations

import math


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError`` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ValueError(message)


def at_least(config: object, section: str = "", /, **lowest: float) -> None:
    """Raise ``ValueError`` naming the first option of ``config`` that is too small or no number.

    Args:
        config: dataclass of options.
        section: its name on the command line, empty for the options of the command itself.
        lowest: field -> its smallest value.
    """
    for name, least in lowest.items():
        value = getattr(config, name)
        wanted = f"be at least {least}" if least else "not be negative"
        require(value >= least, f"{option(name, section)} must {wanted}, got {value}")


def positive(config: object, section: str = "", /, *names: str) -> None:
    """Raise ``ValueError`` naming the first of the fields ``names`` that is not above 0."""
    for name in names:
        value = getattr(config, name)
        right = value > 0 and math.isfinite(value)
        require(right, f"{option(name, section)} must be positive, got {value}")


def option(name: str, section: str = "") -> str:
    """The field ``name`` as it is written on the command line."""
    return f"--{section}{'.' if section else ''}{name.replace('_', '-')}"
