"""The random agent of R2R and CVDN: its expectation over the first turn, and the authors' one run.

    python evidence/random_agent.py --data-dir data

The agent turns right 0 to 11 times and then goes forward until it has moved five times, so its
only chance is the number of turns: the mean over all twelve is its expectation, without a seed. The
paper prints one run of the original code, whose numbers Python 2 drew: the items shuffled with seed
10 (for CVDN once more with seed 1 after each of the two agents before it), then a turn for each of
them with seed 1. Goals of the test split are hidden: its length alone is known.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prevalent.agents.simple import NDH_STEPS, NUM_MOVES, R2R_STEPS
from prevalent.data.instructions import expand, read_paths
from prevalent.data.results import read_references
from prevalent.environments.low_level import FORWARD, RIGHT, LowLevelEnvironment
from prevalent.environments.navigation import Episode
from prevalent.metrics.navigation import SUCCESS_RADIUS, trajectory_length
from prevalent.runtime.files import json_text
from prevalent.simulator.graph import Graphs, load_graphs

TURNS = 12
EARLIER_AGENTS = {"r2r": 0, "ndh": 2}  # that reshuffled the items before the random one
SPLITS = {"r2r": ("val_seen", "val_unseen", "test"), "ndh": ("val_seen", "val_unseen")}
METRICS = {
    ("r2r", False): ("TL", "NE", "SR", "SPL"),
    ("r2r", True): ("TL",),
    ("ndh", False): ("GP",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    folder = parser.parse_args().data_dir
    for task, splits in SPLITS.items():
        for split in splits:
            rows = scores_by_turn(folder, task, split)
            expected = {name: values.mean() for name, values in rows.items()}
            turns = authors_turns(len(next(iter(rows.values()))), EARLIER_AGENTS[task])
            one = {
                name: values[np.arange(len(turns)), turns].mean() for name, values in rows.items()
            }
            for what, scores in (("expectation", expected), ("authors' run", one)):
                shown = {name: round(float(value), 4) for name, value in scores.items()}
                print(f"{task} {split} {what}: {json_text(shown)}", flush=True)


def scores_by_turn(folder: Path, task: str, split: str) -> dict[str, np.ndarray]:
    """Metric -> (items, 12): the score of each item after each number of turns."""
    references = read_references(folder, task, split)
    graphs = load_graphs(folder / "connectivity", sorted({one.scan for one in references}))
    if task == "ndh":
        episodes = [
            Episode(one.scan, (one.start,), float(one.item["start_pano"]["heading"]), one.id)
            for one in references
        ]
    else:
        instructions = expand(read_paths(folder, split), split)
        episodes = [Episode(one.scan, one.path, one.heading, one.id) for one in instructions]
    steps = R2R_STEPS if task == "r2r" else NDH_STEPS
    columns: dict[str, list[list[float]]] = {}
    for turn in range(TURNS):
        walks = wander(graphs, episodes, turn, steps)
        for name, values in item_scores(walks, references, graphs, task, split).items():
            columns.setdefault(name, []).append(values)
    return {name: np.array(values).T for name, values in columns.items()}


def wander(graphs: Graphs, episodes: Sequence[Episode], turns: int, max_steps: int) -> list[Any]:
    """Turn right ``turns`` times, then forward (right where nothing is ahead) five times."""
    environment = LowLevelEnvironment(graphs)
    seen = environment.reset(episodes)
    moves = np.zeros(len(episodes), dtype=int)
    for step in range(max_steps):
        ended = moves >= NUM_MOVES
        if ended.all():
            break
        forward = (step >= turns) & seen.can_move & ~ended
        moves += forward
        seen = environment.step(np.where(ended, -1, np.where(forward, FORWARD, RIGHT)))
    return environment.trajectories()


def item_scores(
    walks: Sequence[Any], references: Sequence[Any], graphs: Graphs, task: str, split: str
) -> dict[str, list[float]]:
    """Metric -> a value an item; lengths and errors in meters, shares in per cent."""
    views = {scan: graphs.by_name(scan) for scan in {one.scan for one in references}}
    columns: dict[str, list[float]] = {name: [] for name in METRICS[task, split == "test"]}
    for walk, one in zip(walks, references, strict=True):
        distance, places = views[one.scan].distance, [pose[0] for pose in walk]
        length = trajectory_length(places, distance)
        if task == "ndh":
            goals = one.item["end_panos"]
            before = min(distance(places[0], goal) for goal in goals)
            after = min(distance(places[-1], goal) for goal in goals)
            columns["GP"].append(before - after)
            continue
        columns["TL"].append(length)
        if split != "test":
            goal = one.item["path"][-1]
            error, shortest = distance(places[-1], goal), distance(places[0], goal)
            success = 100.0 * (error < SUCCESS_RADIUS)
            columns["NE"].append(error)
            columns["SR"].append(success)
            columns["SPL"].append(success * shortest / max(length, shortest))
    return columns


def authors_turns(count: int, earlier_agents: int) -> np.ndarray:
    """Turns of the items in file order as Python 2 drew them."""
    order = list(range(count))
    shuffle(order, random.Random(10))
    for _ in range(earlier_agents):
        shuffle(order, random.Random(1))
    draws = random.Random(1)
    turns = np.zeros(count, dtype=int)
    for item in order:
        turns[item] = TURNS - 1 - int(draws.random() * TURNS)
    return turns


def shuffle(items: list[int], draws: random.Random) -> None:
    """``random.shuffle`` of Python 2, which drew a fraction where Python 3 draws bits."""
    for i in reversed(range(1, len(items))):
        j = int(draws.random() * (i + 1))
        items[i], items[j] = items[j], items[i]


if __name__ == "__main__":
    main()
