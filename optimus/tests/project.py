"""What the tests of help pages and messages need to know of this project."""

from pathlib import Path

import optimus
from optimus.__main__ import VERBS, main
from optimus.data.prepare import CORPORA

__all__ = ["CODE", "FOREIGN", "LINES", "OTHERS", "PROG", "WHERE", "main"]

PROG, CODE = "optimus", Path(optimus.__file__).parent
LINES = [
    *(f"prepare {name}" for name in CORPORA),
    *(f"generate {kind}" for kind in ("reconstruct", "sample", "interpolate", "analogy")),
    *(f"{verb} smoke" for verb in VERBS if verb.startswith("train")),
    *(verb for verb in VERBS if not verb.startswith(("train", "prepare", "generate", "migrate"))),
]
"""Commands that have options, with the name or preset that comes before these."""
TASKS = {
    "language_model": ["train", "evaluate"],
    "dialog": ["train-dialog", "evaluate-dialog"],
    "label_control": ["train-label-control", "evaluate-label-control"],
    "classifier": ["train-classifier"],
}
WHERE = {
    **{f"tasks/{task}.py": verbs for task, verbs in TASKS.items()},
    "data/prepare.py": ["prepare"],
    "data/wikipedia.py": ["prepare wikipedia"],
    "generate.py": ["generate"],
    "report.py": ["report"],
    "released/checkpoints.py": ["convert"],
    "page/plots.py": ["plot-latents"],
    "page/demo.py": ["demo"],
    "page/app.py": ["demo"],
}
"""Modules that speak of some commands alone."""
FOREIGN = ("commands.py", "migrating.md", "deviations.md", "benchmarks.md")
"""Files that speak of the options of the authors and of scripts."""
OTHERS = {"nproc-per-node", "standalone", "always", "exclude", "dirty", "option", "OPTION"}
"""Options of other programs, and words that stand for any option."""
