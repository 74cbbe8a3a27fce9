"""Imports point down only; families do not know each other; files can be read in one sitting."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fqgan"
FAMILIES = ("biggan", "ugatit", "stylegan2")
# From the bottom up; a name stands for all modules below it that have no line of their own.
LAYERS = [
    ("runtime",),
    ("quantizer", "quantizer_kernels", "gan", "spectral_norm", "augment", "metrics"),
    ("data",),
    ("scoring", "pictures", "runs", "old_runs", "loop"),
    FAMILIES,
    ("released",),
    ("config", "plots", *(f"{family}.commands" for family in FAMILIES)),
    ("page", "report", "released.migrate", "data.prepare", "metrics.score"),
    ("__main__",),
]
FILES = sorted(PACKAGE.rglob("*.py"))


def layer_of(module: str) -> int:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        for number, names in enumerate(LAYERS):
            if name in names:
                return number
    raise AssertionError(f"{module} belongs to no layer")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> set[str]:
    """The package's modules that ``path`` imports, anywhere in the file."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*here[: len(here) - node.level], *(node.module or "").split(".")]
            base = [part for part in base if part]
            for alias in node.names:
                whole = PACKAGE.joinpath(*base, alias.name)
                is_module = whole.with_suffix(".py").exists() or whole.is_dir()
                found.add(".".join([*base, alias.name] if is_module else base))
    return found - {""}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    own = name_of(path)
    if own == "__init__":
        return
    for name in imported(path):
        assert layer_of(name) <= layer_of(own), f"{own} may not import {name}"
        families = {part.split(".")[0] for part in (own, name)} & set(FAMILIES)
        assert len(families) < 2, f"{own} may not import {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_can_be_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 800


def test_the_root_of_the_package_is_a_table_of_contents():
    assert len(list(PACKAGE.glob("*.py"))) <= 14
