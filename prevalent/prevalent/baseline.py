"""``prevalent baseline``: run and score an agent that does not learn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .agents.simple import SimpleAgent, hanna_results, ndh_results, r2r_results
from .config import default_data_dir
from .data.dialogs import path_of
from .data.instructions import expand, read_paths
from .data.results import ID_FIELDS, Reference, Task, read_references
from .data.scores import score_results
from .environments.walk import Episode
from .metrics.dialog import PathType
from .runtime.command import parse
from .runtime.files import write_atomically
from .simulator.connectivity import load_graphs
from .simulator.graph import Graphs


@dataclass(frozen=True)
class BaselineConfig:
    """Walk a split without learning."""

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
    output: Path | None = None
    """JSON file for the first seed's results, in the form of the task's leaderboard."""
    seed: int = 0
    """First seed of the random agent."""
    seeds: int = 1
    """Number of seeds; the scores are printed as mean [least, greatest]."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {self.seeds}")


class ObjectSearch(NamedTuple):
    """A HANNA item as the agents take it."""

    id: str
    scan: str
    heading: float
    paths: Sequence[Sequence[str]]


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent baseline --agent random --split val_seen --seeds 10``."""
    config = parse(BaselineConfig, argv, "prevalent baseline")
    references = read_references(config.data_dir, config.task, config.split)
    scans = sorted({reference.scan for reference in references})
    graphs = load_graphs(config.data_dir / "connectivity", scans)
    rows = []
    for seed in range(config.seed, config.seed + config.seeds):
        results = run_baseline(replace(config, seed=seed), references, graphs)
        if config.output is not None and seed == config.seed:
            config.output.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(config.output, json.dumps(results) + "\n")
        if config.split != "test":
            by_id = {str(result[ID_FIELDS[config.task]]): result for result in results}
            rows.append(
                score_results(by_id, references, graphs, config.task, path_type=config.path_type)
            )
    print(f"{config.agent}, {config.task} {config.split}: {len(references)} walks a seed")
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        print(f"{name:<26} {np.mean(values):8.4f}  [{min(values):.4f}, {max(values):.4f}]")


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
    heading = float(reference.item["start_pano"]["heading"])
    path = path_of(reference.item, path_type)
    return Episode(reference.scan, path, heading, reference.id)
