"""Imports point down only, no command imports another, and no file is too long to be read."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "prevalent"
LAYERS = [
    ("runtime",),
    ("simulator", "config"),
    ("metrics", "objectives", "optimizer"),
    ("models",),
    ("data", "released"),
    ("environments",),
    ("agents",),
    ("loop", "curves", "old_runs"),
    ("tasks",),
    ("runs",),
    ("page",),
    (),  # the commands: every other module of the package
    ("__main__",),
]
COMMANDS = LAYERS.index(())
SHARED = {"demo"}  # runs the other commands
FILES = sorted(PACKAGE.rglob("*.py"))


def layer_of(part: str) -> int:
    return next((i for i, names in enumerate(LAYERS) if part in names), COMMANDS)


def imported_parts(path: Path) -> set[str]:
    """First parts of the package's modules that ``path`` imports at its top."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    parts = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level]
            module = [*base, *(node.module or "").split(".")] if node.module else list(base)
            parts |= {module[0]} if module else {alias.name for alias in node.names}
    return parts


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    for name in imported_parts(path) - {own, "__init__"}:
        assert layer_of(name) <= layer_of(own), f"{path} may not import {name}"
        if layer_of(own) == COMMANDS and own not in SHARED:
            assert layer_of(name) < COMMANDS, f"{path} may not import {name}"


def test_the_simulator_needs_no_torch():
    for path in PACKAGE.joinpath("simulator").glob("*.py"):
        assert "import torch" not in path.read_text(), path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_of_a_size_that_can_be_read(path):
    assert len(path.read_text().splitlines()) <= 800


def test_few_files_stand_at_the_root_of_the_package():
    assert len(list(PACKAGE.glob("*.py"))) <= 14
