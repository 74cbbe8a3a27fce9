"""Imports point down only, as docs/design.md draws the layers."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "optimus"
LAYERS = [
    {"runtime"},
    {"objectives", "metrics", "runs", "old_runs"},
    {"models"},
    {"config", "data"},
    {"decoding", "directions", "released.checkpoints"},
    {"api", "loop"},
    {"tasks"},
    {"generate", "released.commands", "report", "verbs"},  # further commands
    {"page"},
    {"__main__"},
]


def layer_of(module: str) -> int:
    """The layer of ``models.vae``: that of the module itself, or of its folder."""
    names = {module, module.split(".")[0]}
    return next(number for number, layer in enumerate(LAYERS) if names & layer)


def imported(path: Path) -> set[str]:
    """Modules of the package that ``path`` imports, such as ``models.vae``."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*here[: len(here) - node.level], *(node.module or "").split(".")]
            inner = [".".join(filter(None, [*base, alias.name])) for alias in node.names]
            files = [name for name in inner if (PACKAGE / f"{name.replace('.', '/')}.py").is_file()]
            found.update(files or [".".join(filter(None, base))])
    return found - {""}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_imports_point_downwards(path):
    own = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    if own.endswith("__init__"):
        return
    for name in imported(path):
        assert layer_of(name) <= layer_of(own), f"{own} may not import {name}"


def test_models_and_metrics_know_no_files_of_a_run():
    for path in [*PACKAGE.glob("models/*.py"), *PACKAGE.glob("metrics/*.py")]:
        assert not {"config", "data.text", "runtime.run_folder"} & imported(path), path
