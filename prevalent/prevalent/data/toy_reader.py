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

from ..simulator.geometry import NUM_HEADINGS, VIEW_HEADINGS, canonical_angle, nearest_view
from ..simulator.graph import Graphs
from .features import FeatureStore
from .toy import color_embeddings, landmark_embeddings
from .toy_texts import (
    COLORS,
    LANDMARKS,
    ORDINALS,
    ROOMS,
    SYNONYMS,
    Step,
    direction,
    rank,
    room_of,
    side,
)

ENDINGS = ("stop", "wait")
ASIDES = ("you", "can", "see")  # a sentence that mentions what does not matter
BREAKS = (".", ",", "[SEP]", "[PAD]")
TURNS = (
    "left",
    "right",
    "straight",
    "around",
    "up",
    "down",
)  # the word that tells one from another


class Thing(NamedTuple):
    """What is said of a place; None where it is not said, or where the word is masked."""

    landmark: int | None = None
    color: int | None = None
    room: str | None = None


class Clause(NamedTuple):
    """What a clause says of the way to take, and of ways not to take."""

    goal: Thing = Thing()
    turn: str | None = None  # one of TURNS
    rank: int | None = None  # among the ways on that side
    ends: bool = False  # it tells where to stop
    not_goal: Thing = Thing()
    not_turn: str | None = None


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
        if said and not set(said) & set(ASIDES):
            clauses.append(_read_clause(said))
    if clauses and not clauses[-1].ends:  # its verb is masked
        clauses[-1] = clauses[-1]._replace(ends=True)
    return clauses


def _read_clause(said: list[str]) -> Clause:
    ruled_out: list[str] = []
    if "not" in said:
        start = said.index("not")
        end = said.index("but") if "but" in said else len(said)
        ruled_out, said = said[start:end], said[:start] + said[end:]
    return Clause(
        _read_thing(said),
        _last(said, TURNS),
        None if (word := _last(said, ORDINALS)) is None else ORDINALS.index(word),
        any(one in ENDINGS for one in said),
        _read_thing(ruled_out),
        _last(ruled_out, TURNS),
    )


def _read_thing(said: Sequence[str]) -> Thing:
    landmark, color = _last(said, LANDMARKS + SYNONYMS), _last(said, COLORS)
    return Thing(
        None if landmark is None else (LANDMARKS + SYNONYMS).index(landmark) % len(LANDMARKS),
        None if color is None else COLORS.index(color),
        _last(said, tuple(ROOMS)),
    )


def _last(said: Sequence[str], known: Sequence[str]) -> str | None:
    """The last word of ``said`` that is one of ``known``."""
    return next((word for word in reversed(said) if word in known), None)


class ToyReader:
    """Finds the next step from words and the present panorama.

    Args:
        graphs: houses of a toy world.
        store: their features.
    """

    def __init__(self, graphs: Graphs, store: FeatureStore) -> None:
        self.graphs = graphs
        self.landmarks, self.colors = see_landmarks(graphs, store)

    def next_nodes(
        self, words: Sequence[str], node: int, view: int, done: int | None = None
    ) -> set[int]:
        """The nodes that words and panorama speak for most; ``node`` itself is a stop.

        Each pair of a place in the text and a neighbor is judged: does the last clause name the
        landmark of ``node``, does the next one name the neighbor's and its direction? What is
        confirmed counts for it, what is contradicted against it, and what is not said (or masked)
        not at all. Several nodes remain where words and panorama leave it open.

        Args:
            done: steps that were made, for a reader who remembers them; None tries all places.
        """
        *steps, ending = read_clauses(words)
        near = self.graphs.neighbors[node][: self.graphs.degree[node]].tolist()
        ways = [self._way(node, view, other) for other in near]
        points: dict[int, float] = {}

        def judge(option: int, worth: float) -> None:
            points[option] = max(worth, points.get(option, worth))

        for place, clause in enumerate(steps):
            if done not in (None, place):
                continue
            reached = self.agree(steps[place - 1].goal, node) if place else 0.0
            for other, way in zip(near, ways, strict=True):
                judge(other, reached + self._follow(clause, other, way, ways))
        if done is None or done >= len(steps):
            goal = steps[-1].goal if steps and ending.goal == Thing() else ending.goal
            judge(node, 2 * self.agree(goal, node))
        best = max(points.values())
        return {option for option, worth in points.items() if worth == best}

    def walk(
        self, words: Sequence[str], node: int, heading: float, rng: np.random.Generator
    ) -> int:
        """Where a reader ends who starts at ``node`` and counts the steps, ties drawn by lot."""
        view = int(nearest_view(heading, 0.0))
        for done in range(len(read_clauses(words))):
            following = int(rng.choice(sorted(self.next_nodes(words, node, view, done))))
            if following == node:
                break
            x, y, _ = self.graphs.positions[following] - self.graphs.positions[node]
            node, view = following, int(nearest_view(float(np.pi / 2 - np.arctan2(y, x)), 0.0))
        return node

    def agree(self, said: Thing, node: int) -> float:
        """1 where all that is said is true of ``node``, -1 where not, 0 where nothing is said."""
        mark = int(self.landmarks[node])
        seen = Thing(mark, int(self.colors[node]), room_of(LANDMARKS[mark]))
        agreed = [
            agree(said.landmark, seen.landmark),
            agree(said.color, seen.color),
            agree(said.room, seen.room),
        ]
        return min(agreed) if min(agreed) < 0 else max(agreed)

    def _follow(self, clause: Clause, other: int, way: Step, ways: Sequence[Step]) -> float:
        """How far ``clause`` speaks for the neighbor ``other``."""
        words = direction(way).split()
        worth = self.agree(clause.goal, other)
        if clause.turn is not None:
            worth += 1.0 if clause.turn in words else -1.0
        if clause.rank is not None:
            right = clause.rank == rank(way, ways) and clause.turn in (None, side(way))
            worth += 0.0 if right else -1.0
        ruled_out = self.agree(clause.not_goal, other) > 0 or clause.not_turn in words
        if ruled_out:
            worth -= 1.0
        elif clause == Clause(not_goal=clause.not_goal, not_turn=clause.not_turn) != Clause():
            worth += 0.0 if "around" in words else 1.0  # nobody is told to go back
        return worth

    def _way(self, node: int, view: int, other: int) -> Step:
        """The way from ``node`` to its neighbor ``other``, seen from ``view``."""
        x, y, climb = self.graphs.positions[other] - self.graphs.positions[node]
        heading = np.pi / 2 - np.arctan2(y, x) - VIEW_HEADINGS[view % NUM_HEADINGS]
        return Step(float(canonical_angle(heading)), float(climb), "")


def agree(said: int | str | None, seen: int | str | None) -> float:
    """1 for the same, -1 for another, 0 where nothing is said."""
    return 0.0 if said is None else 1.0 if said == seen else -1.0


def see_landmarks(
    graphs: Graphs, store: FeatureStore
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) landmark of every node as its views that look down show it, and its color.

    A landmark is -1 without features, a color where the landmark has none.
    """
    known = landmark_embeddings(len(LANDMARKS), store.width)
    shades = np.concatenate([color_embeddings(store.width), 0 * known[:1]])
    looks = known[:, None] + shades  # (landmarks, colors and none, D)
    looks /= np.linalg.norm(looks, axis=-1, keepdims=True)
    landmarks = np.full(len(graphs.viewpoints), -1, dtype=np.int64)
    colors = landmarks.copy()
    for node in np.flatnonzero(graphs.included).tolist():
        name = graphs.long_id(node)
        if name in store.rows:
            likeness = looks @ store.view(name)[:NUM_HEADINGS].mean(axis=0)
            landmarks[node], colors[node] = np.unravel_index(likeness.argmax(), likeness.shape)
    colors[colors == len(COLORS)] = -1
    return landmarks, colors
