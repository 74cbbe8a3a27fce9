"""``prevalent baseline``: run an agent that does not learn and write its result file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .agents.simple import SimpleAgent, hanna_results, ndh_results, r2r_results
from .config import default_data_dir
from .data.instructions import expand, read_paths
from .data.results import PATH_FIELDS, Reference, Task, read_references
from .environments.walk import Episode
from .metrics.dialog import PathType, reference_path
from .runtime.command import parse
from .runtime.files import write_atomically
from .simulator.connectivity import load_graphs
from .simulator.graph import Graphs


@dataclass(frozen=True)
class BaselineConfig:
    """Walk a split without learning."""

    output: Path
    """JSON file to write, in the form of the task's leaderboard."""
    agent: SimpleAgent = "random"
    """random, stop, forward or shortest."""
    split: str = "val_unseen"
    """Split to walk."""
    task: Task = "r2r"
    """Room-to-Room, Navigation from Dialog History, or HANNA."""
    path_type: PathType = "trusted_path"
    """NDH: whose path the shortest agent follows to its end."""
    data_dir: Path = field(default_factory=default_data_dir)
    """Folder with connectivity/ and r2r/, ndh/ or hanna/."""
    seed: int = 0
    """Seed of the random agent."""


class ObjectSearch(NamedTuple):
    """A HANNA item as the agents take it."""

    id: str
    scan: str
    heading: float
    paths: Sequence[Sequence[str]]


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent baseline --agent random --split val_seen --output FILE``."""
    config = parse(BaselineConfig, argv, "prevalent baseline")
    references = read_references(config.data_dir, config.task, config.split)
    scans = sorted({reference.scan for reference in references})
    graphs = load_graphs(config.data_dir / "connectivity", scans)
    results = run_baseline(config, references, graphs)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(config.output, json.dumps(results) + "\n")
    steps = sum(len(result[PATH_FIELDS[config.task]]) - 1 for result in results)
    print(f"{config.agent}: {len(results)} walks of {steps} steps in {config.output}")


def run_baseline(
    config: BaselineConfig, references: Sequence[Reference], graphs: Graphs
) -> list[dict[str, Any]]:
    """Results of ``config.agent`` for ``references``."""
    if config.task == "hanna":
        searches = [
            ObjectSearch(one.id, one.scan, float(one.item["heading"]), one.item["paths"])
            for one in references
        ]
        return hanna_results(config.agent, graphs, searches, seed=config.seed)
    if config.task == "ndh":
        episodes = [dialog_episode(reference, config.path_type) for reference in references]
        return ndh_results(config.agent, graphs, episodes, seed=config.seed)
    instructions = expand(read_paths(config.data_dir, config.split), config.split)
    episodes = [Episode(one.scan, one.path, one.heading, one.id) for one in instructions]
    return r2r_results(config.agent, graphs, episodes, seed=config.seed)


def dialog_episode(reference: Reference, path_type: PathType) -> Episode:
    """The walk that an NDH item asks for; its start elevation is unusable and taken as 0."""
    path = tuple(reference_path(reference.item, path_type))
    heading = float(reference.item["start_pano"]["heading"])
    return Episode(reference.scan, path, heading, reference.id)
