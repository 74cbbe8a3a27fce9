"""Imports point down only; families do not know each other; no command imports another."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fqgan"
FAMILIES = ("biggan", "ugatit", "stylegan2")
LAYERS = [
    ("runtime",),
    (
        "quantizer",
        "quantizer_options",
        "checks",
        "ema",
        "metrics",
        "safe_load",
        "tensor_bundle",
        "wire_format",
        "conversion",
        "gradients",
        "weight_files",
        "spectral_norm",
    ),
    ("data",),
    ("scoring", "sheets", "plots", "latents", "progress", "codebook", "pictures"),
    FAMILIES,
    ("config", "families", "gallery", "explorer", "page"),
    (),  # the commands: every other module of the package
    ("__main__",),
]
COMMANDS = LAYERS.index(())
FILES = sorted(PACKAGE.rglob("*.py"))


def layer_of(part: str) -> int:
    return next((i for i, names in enumerate(LAYERS) if part in names), COMMANDS)


def imported_parts(path: Path) -> set[str]:
    """First parts of the package's modules that ``path`` imports."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    parts = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level]
            module = [*base, *(node.module or "").split(".")] if node.module else list(base)
            names = [module[0]] if module else [alias.name for alias in node.names]
            parts |= set(names)
    return parts


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if own == "__init__":
        return
    for name in imported_parts(path) - {own}:
        assert layer_of(name) <= layer_of(own), f"{path} may not import {name}"
        if layer_of(own) in (COMMANDS, LAYERS.index(FAMILIES)):
            assert layer_of(name) < layer_of(own), f"{path} may not import {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_are_of_a_size_that_can_be_read(path):
    assert len(path.read_text().splitlines()) <= 400
