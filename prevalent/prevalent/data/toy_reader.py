"""A reader of toy instructions by rule: what words and one panorama say about the next step.

It knows the templates and looks landmarks up in the features, but has neither history nor memory,
as the action head of pre-training has none. What it scores is how far the target of that head is
determined at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..simulator.geometry import NUM_HEADINGS, VIEW_HEADINGS, canonical_angle
from ..simulator.graph import Graphs
from .features import FeatureStore
from .toy import LANDMARKS, Step, direction, landmark_embeddings

ENDINGS = ("stop", "wait")
BREAKS = (".", ",", "[SEP]", "[PAD]")
TURNS = (
    "left",
    "right",
    "straight",
    "around",
    "up",
    "down",
)  # the word that tells one from another


class Clause(NamedTuple):
    """What a clause says; None where it does not say it, or where the word is masked."""

    landmark: int | None
    turn: str | None  # one of TURNS
    ends: bool  # it tells where to stop


def read_clauses(words: Sequence[str]) -> list[Clause]:
    """The clauses of a tokenized instruction, the one that ends it last."""
    clauses: list[Clause] = []
    clause: list[str] = []
    for word in (*words, "."):
        if word not in BREAKS:
            clause.append(word)
            continue
        said = [one for one in clause if one not in ("[CLS]", "then")]
        clause = []
        if said:
            landmarks = [LANDMARKS.index(one) for one in said if one in LANDMARKS]
            turns = [one for one in said if one in TURNS]
            ends = any(one in ENDINGS for one in said)
            landmark = landmarks[-1] if landmarks else None
            clauses.append(Clause(landmark, turns[-1] if turns else None, ends))
    if clauses and not clauses[-1].ends:  # its verb is masked
        clauses[-1] = clauses[-1]._replace(ends=True)
    return clauses


class ToyReader:
    """Finds the next step from words and the present panorama.

    Args:
        graphs: houses of a toy world.
        store: their features.
    """

    def __init__(self, graphs: Graphs, store: FeatureStore) -> None:
        self.graphs = graphs
        self.landmarks = see_landmarks(graphs, store)

    def next_nodes(self, words: Sequence[str], node: int, view: int) -> set[int]:
        """The nodes that words and panorama speak for most; ``node`` itself is a stop.

        Each pair of a place in the text and a neighbor is judged: does the last clause name the
        landmark of ``node``, does the next one name the neighbor's and its direction? What is
        confirmed counts for it, what is contradicted against it, and what is not said (or masked)
        not at all. Several nodes remain where words and panorama leave it open.
        """
        *steps, ending = read_clauses(words)
        here = int(self.landmarks[node])
        points: dict[int, float] = {}

        def judge(option: int, worth: float) -> None:
            points[option] = max(worth, points.get(option, worth))

        for done, clause in enumerate(steps):
            reached = agree(steps[done - 1].landmark, here) if done else 0.0
            for other in self.graphs.neighbors[node][: self.graphs.degree[node]].tolist():
                turn = self._turn(node, view, other)
                named = agree(clause.landmark, int(self.landmarks[other]))
                turned = 0.0 if clause.turn is None else 1.0 if clause.turn in turn else -1.0
                judge(other, reached + named + turned)
        last = steps[-1].landmark if steps else None
        judge(node, 2 * agree(last if ending.landmark is None else ending.landmark, here))
        best = max(points.values())
        return {option for option, worth in points.items() if worth == best}

    def _turn(self, node: int, view: int, other: int) -> list[str]:
        """The words for the way from ``node`` to its neighbor ``other``, seen from ``view``."""
        x, y, climb = self.graphs.positions[other] - self.graphs.positions[node]
        heading = np.pi / 2 - np.arctan2(y, x) - VIEW_HEADINGS[view % NUM_HEADINGS]
        return direction(Step(float(canonical_angle(heading)), float(climb), "")).split()


def agree(said: int | None, seen: int) -> float:
    """1 for the same landmark, -1 for another, 0 where none is named."""
    return 0.0 if said is None else 1.0 if said == seen else -1.0


def see_landmarks(graphs: Graphs, store: FeatureStore) -> NDArray[np.int64]:
    """(N,) landmark of every node as its views that look down show it; -1 without features."""
    known = landmark_embeddings(len(LANDMARKS), store.width)
    landmarks = np.full(len(graphs.viewpoints), -1, dtype=np.int64)
    for node in np.flatnonzero(graphs.included).tolist():
        name = graphs.long_id(node)
        if name in store.rows:
            seen = store.view(name)[:NUM_HEADINGS].mean(axis=0)
            landmarks[node] = (known @ seen / np.square(known).sum(axis=1)).argmax()
    return landmarks
