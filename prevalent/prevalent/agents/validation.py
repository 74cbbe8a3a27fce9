"""Walk whole splits with a follower, greedily or by search, and score the walks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from ..data.scores import score_results
from ..metrics.navigation import SUCCESS_RADIUS
from ..runtime.distributed import World, gather_objects
from ..simulator.graph import Graphs
from .episodes import Episodes
from .follower import Follower
from .search import SearchResult, choose, path_score, rescore, search
from .speaker import Speaker

Results = dict[str, dict[str, Any]]


class Mixture(NamedTuple):
    """How the scores of a path are put together."""

    alpha: float = 0.5
    """Share of the speaker's score."""
    mean_speaker: bool = True
    mean_listener: bool = True


def walk_split(
    follower: Follower, episodes: Episodes, batch_size: int, world: World | None = None
) -> Results:
    """Results of greedy walks by id; each process walks its share and all get everything."""
    mine = episodes if world is None else episodes.part(world.rank, world.size)
    records = follower.act(mine.batches(batch_size))
    gathered = [record for part in gather_objects(records) for record in part]
    by_id = {record["instr_id"]: record for record in gathered}
    return {one.id: by_id[one.id] for one in episodes.instructions}


def search_split(
    follower: Follower,
    episodes: Episodes,
    batch_size: int,
    candidates: int,
    speaker: Speaker | None = None,
) -> list[SearchResult]:
    """State-factored search for all episodes, rescored by ``speaker`` where there is one."""
    found = []
    for batch in episodes.batches(batch_size):
        results = search(follower, batch, candidates)
        if speaker is not None:
            texts = [speaker.tokenizer.encode(task.text) for task in batch.tasks]  # type: ignore[attr-defined]
            empty = np.zeros(speaker.tokenizer.max_length, dtype=np.int64)
            tokens = np.stack([empty if text is None else text for text in texts])
            rescore([one for one in results if one.paths], speaker, _with_paths(results, tokens))
        found += results
    return found


def _with_paths(results: Sequence[SearchResult], tokens: np.ndarray) -> np.ndarray:
    """Rows of ``tokens`` whose search has found a path."""
    return tokens[[i for i, one in enumerate(results) if one.paths]]


def choose_walks(found: Sequence[SearchResult], mixture: Mixture) -> Results:
    """Results by id: the walk of each search and then its best path."""
    means = {"mean_speaker": mixture.mean_speaker, "mean_listener": mixture.mean_listener}
    return {
        one.id: {"instr_id": one.id, "trajectory": choose(one, mixture.alpha, **means)}
        for one in found
    }


def tune_mixture(found: Sequence[SearchResult], episodes: Episodes, graphs: Graphs) -> Mixture:
    """The mixture with the most successes among 101 shares and four ways to average."""
    goals = {one.id: (one.scan, one.path[-1]) for one in episodes.instructions}
    best, best_successes = Mixture(), -1
    hits = {
        (one.id, i): _is_near(graphs, *goals[one.id], path.trajectory[-1][0])
        for one in found
        for i, path in enumerate(one.paths)
    }
    for mean_speaker, mean_listener in product((True, False), repeat=2):
        means = {"mean_speaker": mean_speaker, "mean_listener": mean_listener}
        ends = [
            (
                one.id,
                np.array([path_score(path, 1.0, **means) for path in one.paths]),
                np.array([path_score(path, 0.0, **means) for path in one.paths]),
            )
            for one in found
            if one.paths
        ]
        for alpha in np.linspace(0, 1, 101).tolist():
            successes = sum(
                hits[name, int(np.argmax(alpha * speaker + (1 - alpha) * listener))]
                for name, speaker, listener in ends
            )
            if successes > best_successes:
                best_successes, best = successes, Mixture(alpha, mean_speaker, mean_listener)
    return best


def _is_near(graphs: Graphs, scan: str, goal: str, end: str) -> bool:
    distance = graphs.distance(graphs.node(scan, end), graphs.node(scan, goal))
    return bool(distance < SUCCESS_RADIUS)


def score_walks(results: Results, episodes: Episodes, graphs: Graphs) -> dict[str, float]:
    """Mean scores of ``results`` under the metric names of R2R."""
    return score_results(results, episodes.references(), graphs, "r2r")
