"""Compare the files that must be the same in the three projects.

`PACKAGE/loop.py`, `PACKAGE/runtime/*.py`, `gpu/verdict.py`, `tests/documents.py`,
`tests/stand_in.py`, the tests of help pages and messages, `ruff.toml` and `LICENSE` are
byte-identical; the tests of the runtime and those of the faults that every project has may differ
in the package's name alone. `--write` copies the files of the first project over the others.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"optimus": "optimus", "fq-gan": "fqgan", "prevalent": "prevalent"}
WHOLE = (
    "ruff.toml",
    "LICENSE",
    "tests/documents.py",
    "tests/stand_in.py",
    "gpu/verdict.py",
    "tests/test_faults.py",
    "tests/test_help.py",
    "tests/test_messages.py",
)
FAULTS = (
    "hostile",
    "jobs",
    "test_archives",
    "test_damaged_checkpoints",
    "test_downloads",
    "test_full_disk",
    "test_kills",
    "test_ranks",
    "test_seeds_and_locks",
    "test_signals",
    "test_surroundings",
)


def twins(project: str) -> dict[str, str]:
    """Text of a project's twins by a name that the projects share."""
    package, folder = PACKAGES[project], ROOT / project
    texts = {name: (folder / name).read_text() for name in WHOLE}
    for path in [folder / package / "loop.py", *sorted((folder / package / "runtime").glob("*.py"))]:
        texts[str(path.relative_to(folder / package))] = path.read_text()
    tests = sorted((folder / "tests" / "runtime").glob("*.py"))
    tests += [folder / "tests" / "faults" / f"{name}.py" for name in FAULTS]
    for path in tests:
        if path.exists():
            text = re.sub(rf"\b{package}\.(runtime|loop)\b", r"PACKAGE.\1", path.read_text())
            texts[str(path.relative_to(folder))] = text
    return texts


def path_of(project: str, name: str) -> Path:
    """Where a project keeps the twin called ``name``."""
    package = PACKAGES[project]
    inside = name == "loop.py" or name.startswith("runtime/")
    return ROOT / project / (f"{package}/{name}" if inside else name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="copy the first project's twins")
    write = parser.parse_args().write
    present = [project for project in PACKAGES if (ROOT / project / "pyproject.toml").exists()]
    first, *others = present
    expected = twins(first)
    problems = []
    for project in others:
        if write:
            for name, text in expected.items():
                path = path_of(project, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text.replace("PACKAGE.", f"{PACKAGES[project]}."))
        found = twins(project)
        problems += [
            f"{project}/{name} differs from {first}/{name}"
            for name in sorted(expected.keys() | found.keys())
            if expected.get(name) != found.get(name)
        ]
    print("\n".join(problems) or f"{len(expected)} twins are the same in {', '.join(present)}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
