"""What the tests of help pages and messages need to know of this project."""

from pathlib import Path

import fqgan
from fqgan.__main__ import main
from fqgan.data.prepare import _VERBS as PREPARED
from fqgan.released.convert import KINDS as CONVERTED

__all__ = ["CODE", "FOREIGN", "LINES", "OTHERS", "PROG", "WHERE", "main"]

PROG, CODE = "fqgan", Path(fqgan.__file__).parent
FAMILIES = {
    "biggan": ["train smoke", "sample biggan", "evaluate biggan"],
    "ugatit": ["train ugatit-smoke", "translate", "evaluate ugatit"],
    "stylegan2": ["train stylegan2-smoke", "sample stylegan2", "project", "evaluate stylegan2"],
}
LINES = [
    *(f"prepare {name}" for name in PREPARED),
    *(line for lines in FAMILIES.values() for line in lines),
    *(f"convert {name}" for name in CONVERTED),
    *("score", "plot", "report", "demo"),
]
"""Commands that have options, with the name, preset or family that comes before these."""
WHERE = {
    **{f"{family}/": [*lines, "demo"] for family, lines in FAMILIES.items()},
    "data/prepare.py": ["prepare"],
    "data/unpaired.py": ["prepare", *FAMILIES["ugatit"]],
    "metrics/score.py": ["score"],
    "released/convert.py": [f"convert {name}" for name in CONVERTED],
    "page/demo.py": ["demo"],
    "page/explorer.py": ["demo"],
    "page/codebook.py": ["demo"],
    "plots.py": ["plot"],
    "report.py": ["report"],
}
"""Modules that speak of some commands alone."""
FOREIGN = ("migrate.py", "migrating.md", "deviations.md", "benchmarks.md")
"""Files that speak of the options of the authors and of scripts."""
OTHERS = {
    "nproc-per-node",
    "standalone",
    "always",
    "exclude",
    "dirty",
    "option",
    "OPTION",
    "data_root",
}
"""Options of other programs, and words that stand for any option."""
