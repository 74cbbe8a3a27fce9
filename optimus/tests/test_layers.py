"""Imports point down only: runtime < models < ... < commands, and no command imports another."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "optimus"
LAYERS = [
    ("runtime",),
    ("objectives", "config", "unpickle", "metrics"),
    ("models",),
    ("presets", "optimizer", "running_means", "scoring", "data"),
    ("decoding", "authors_checkpoint"),
    ("sentence_vae", "convert", "judge", "plots", "explorer"),
    ("initialize", "page"),
    (),  # the commands: every other module of the package
    ("__main__",),
]
COMMANDS = LAYERS.index(())


def layer_of(part: str) -> int:
    if part.endswith("_options"):
        part = "config"
    return next((i for i, names in enumerate(LAYERS) if part in names), COMMANDS)


def imported(path: Path) -> set[str]:
    """First parts of the package's modules that ``path`` imports."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level]
            names = (node.module or "").split(".") if node.module else [a.name for a in node.names]
            parts.update({base[0]} if base else ({names[0]} if node.module else set(names)))
    return parts - {"__init__"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_imports_point_downwards(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    for name in imported(path) - {own}:
        below = layer_of(name) < layer_of(own)
        same = layer_of(name) == layer_of(own) != COMMANDS
        assert below or same, f"{path.name} may not import {name}"
