"""``prevalent submit``: check results and write them as a leaderboard takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .agents.dialog_runs import open_dialog_agent, walk_dialog_split
from .agents.runs import Walking, open_agent, walk_agent
from .agents.validation import Mixture, Results
from .config import default_data_dir
from .data.results import check_results, read_references, read_results, write_submission
from .runtime.command import parse
from .simulator.connectivity import load_graphs


@dataclass(frozen=True)
class SubmitConfig:
    """Check that every instruction has one possible trajectory, then write the file."""

    results: Path | None = None
    """JSON list of results."""
    run_dir: Path | None = None
    """Run of `prevalent train-r2r`, or with --task ndh of `prevalent train-ndh`, whose agent shall
    walk the split."""
    split: str = "test"
    """Split that the leaderboard asks for."""
    task: Literal["r2r", "ndh"] = "r2r"
    """Leaderboard."""
    data_dir: Path | None = None
    """Folder with connectivity/ and r2r/ or ndh/ (default: the run's, or $PREVALENT_DATA)."""
    output: Path | None = None
    """Where to write; ``submit_SPLIT.json`` beside the results or in the run if not given."""

    snapshot: str = "best_val_unseen"
    """Which agent of the run."""
    forbid_revisits: bool = True
    """Greedy walks of Room-to-Room do not return to a place, as the authors' submissions."""
    beam: int = 0
    """Paths that a state-factored search collects before one is chosen; 0 walks greedily."""
    speaker: Path | None = None
    """Speaker that rescores those paths: a run, a snapshot, or a file of the authors' code."""
    alpha: float = 0.5
    """Share of the speaker's score."""
    batch_size: int = 100
    """Episodes that walk together."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""

    def __post_init__(self) -> None:
        if (self.results is None) == (self.run_dir is None):
            raise ValueError("give either --results FILE or --run-dir RUN")
        if self.task == "ndh" and self.beam:
            raise ValueError("--beam searches for --task r2r only; drop it for --task ndh")


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent submit --run-dir runs/r2r/envdrop --split test``."""
    config = parse(SubmitConfig, argv, "prevalent submit")
    path = submit(config)
    print(f"wrote {path}")


def submit(config: SubmitConfig) -> Path:
    """Validate and write; raises ``ValueError`` naming the first offender and writes nothing."""
    if config.results is not None:
        results = read_results(config.results, config.task)
        data_dir = config.data_dir or default_data_dir()
        folder = config.results.parent
    else:
        assert config.run_dir is not None
        results, data_dir = walk_run(config)
        folder = config.run_dir
    references = read_references(data_dir, config.task, config.split)
    scans = sorted({reference.scan for reference in references})
    graphs = load_graphs(data_dir / "connectivity", scans)
    check_results(results, references, graphs, config.task)
    output = config.output or folder / f"submit_{config.split}.json"
    write_submission(output, results, config.task)
    return output


def walk_run(config: SubmitConfig) -> tuple[Results, Path]:
    """Results of the run's agent, and its data folder."""
    assert config.run_dir is not None
    if config.task == "ndh":
        return walk_dialog_run(config)
    agent = open_agent(
        config.run_dir,
        config.split,
        snapshot=config.snapshot,
        data_dir=config.data_dir,
        device=config.device,
    )
    how = Walking(
        config.batch_size,
        config.beam,
        config.speaker,
        Mixture(config.alpha),
        forbid_revisits=config.forbid_revisits,
    )
    return walk_agent(agent, how)[0], agent.config.data_dir


def walk_dialog_run(config: SubmitConfig) -> tuple[Results, Path]:
    """The same with an agent of NDH."""
    assert config.run_dir is not None
    agent, _, episodes, run = open_dialog_agent(
        config.run_dir,
        config.split,
        snapshot=config.snapshot,
        data_dir=config.data_dir,
        device=config.device,
    )
    return walk_dialog_split(agent, episodes, config.batch_size), run.data_dir
