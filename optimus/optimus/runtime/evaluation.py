"""What an evaluation leaves: its scores, and what they are scores of."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .files import write_json


@dataclass(frozen=True)
class Provenance:
    """What was scored, and how."""

    kind: str
    """Of the run, or of the task that a file of results answers."""
    data: str
    """Corpus or split."""
    items: int
    """Sentences, images or episodes that were scored."""
    left_out: int = 0
    """Those of the split that were not, such as too long ones."""
    trial: bool = False
    """Fewer items or samples than the protocol has: not to be compared with published figures."""
    step: int | None = None
    """Of the run."""
    seed: int | None = None
    precision: str = "fp32"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further numbers of the protocol: samples, sizes, features."""


def write_evaluation(path: str | Path, scores: Mapping[str, Any], about: Provenance) -> Path:
    """Write ``scores`` with their provenance, versions and commit as strict JSON.

    A trial is written beside ``path``, as ``NAME.trial.json``, and never over a whole evaluation.
    Scores that are not finite become null.

    Returns:
        The file.
    """
    path = Path(path)
    if about.trial:
        path = path.with_suffix(f".trial{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**scores, "provenance": {**asdict(about), **versions()}})
    return path


def versions() -> dict[str, str | None]:
    """Of this program, the libraries that decide on numbers, and the commit of the checkout."""
    name = __name__.partition(".")[0]
    package = importlib.import_module(name)
    found: dict[str, str | None] = {"program": f"{name} {package.__version__}"}
    for library in ("torch", "transformers"):
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    found["commit"] = _commit(Path(package.__path__[0]))
    return found


def _commit(folder: Path) -> str | None:
    """The commit that ``folder`` is checked out from, ``+`` if files differ, or None."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
