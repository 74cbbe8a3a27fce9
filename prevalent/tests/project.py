"""What the tests of help pages and messages need to know of this project."""

from pathlib import Path

import prevalent
from prevalent.__main__ import VERBS, main
from prevalent.prepare import WORK

__all__ = ["CODE", "FOREIGN", "LINES", "OTHERS", "PROG", "WHERE", "main"]

PROG, CODE = "prevalent", Path(prevalent.__file__).parent
TRAINED = {
    "pretrain": "smoke",
    "train-speaker": "smoke",
    "train-r2r": "smoke",
    "train-graph": "smoke",
    "train-ndh": "ndh-smoke",
    "train-hanna": "hanna-smoke",
}
LINES = [
    *(f"prepare {name}" for name in WORK),
    *(f"{verb} {preset}" for verb, preset in TRAINED.items()),
    *(verb for verb in VERBS if verb not in ("prepare", *TRAINED)),
]
"""Commands that have options, with the name or preset that comes before these."""
WHERE = {
    "tasks/pretraining.py": ["pretrain"],
    "tasks/speaker.py": ["train-speaker"],
    "tasks/r2r.py": ["train-r2r", "evaluate", "submit"],
    "tasks/graph.py": ["train-graph"],
    "tasks/ndh.py": ["train-ndh"],
    "tasks/hanna.py": ["train-hanna"],
    "tasks/probes.py": ["probe"],
    "prepare.py": ["prepare"],
    "evaluate.py": ["evaluate", "submit", "baseline"],
    "convert.py": ["convert"],
    "report.py": ["report"],
    "page/trajectories.py": ["trajectories"],
    "page/app.py": ["demo"],
    "page/explorer.py": ["demo"],
    "demo.py": ["demo", "demo-hanna"],
}
"""Modules that speak of some commands alone."""
FOREIGN = ("migrating.md", "deviations.md", "benchmarks.md")
"""Files that speak of the options of the authors and of scripts."""
OTHERS = {
    "nproc-per-node",
    "standalone",
    "always",
    "exclude",
    "dirty",
    "option",
    "OPTION",
    "search",
    "loadOptim",
    "agents",
    "dic-actions",
}
"""Options of other programs, and words that stand for any option."""
