"""``prevalent submit``: check a result file and write it as a leaderboard takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .config import default_data_dir
from .data.results import check_results, read_references, read_results, write_submission
from .runtime.command import parse
from .simulator.connectivity import load_graphs


@dataclass(frozen=True)
class SubmitConfig:
    """Check that every instruction has one possible trajectory, then write the file."""

    results: Path
    """JSON list of results."""
    split: str = "test"
    """Split that the leaderboard asks for."""
    task: Literal["r2r", "ndh"] = "r2r"
    """Leaderboard."""
    data_dir: Path = field(default_factory=default_data_dir)
    """Folder with connectivity/ and r2r/ or ndh/."""
    output: Path | None = None
    """Where to write; ``submit_SPLIT.json`` beside the results if not given."""


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent submit --results FILE --split test``."""
    config = parse(SubmitConfig, argv, "prevalent submit")
    path = submit(config)
    print(f"wrote {path}")


def submit(config: SubmitConfig) -> Path:
    """Validate and write; raises ``ValueError`` naming the first offender and writes nothing."""
    references = read_references(config.data_dir, config.task, config.split)
    results = read_results(config.results, config.task)
    scans = sorted({reference.scan for reference in references})
    graphs = load_graphs(config.data_dir / "connectivity", scans)
    check_results(results, references, graphs, config.task)
    output = config.output or config.results.with_name(f"submit_{config.split}.json")
    write_submission(output, results, config.task)
    return output
