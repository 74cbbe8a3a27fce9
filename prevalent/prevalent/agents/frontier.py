"""States of a state-factored search: what was found, what to expand, which way leads there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..environments.navigation import Observation
from ..environments.walk import Pose
from ..models.decoder import DecoderState
from ..simulator.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS
from ..simulator.graph import Graphs

STOP = -1
StateId = tuple[int, int] | None
"""Node and action; None for the start."""


@dataclass
class SearchPath:
    """One finished path; S actions, the stop included."""

    trajectory: list[Pose]  # S + 1
    actions: list[int]  # candidate index, -1 for the stop
    listener_scores: list[float]  # log-probabilities of the actions, nats
    num_choices: list[int]  # candidates and STOP at each viewpoint
    nodes: list[int]  # S viewpoints at which the actions were chosen
    views: list[int]  # S
    speaker_scores: list[float] = field(default_factory=list)  # log-probability of each word, nats


class State(NamedTuple):
    node: int  # where the agent is after the action
    view: int
    parent: StateId
    score: float
    log_prob: float
    num_choices: int
    attended: Tensor  # (H,)
    cell: Tensor  # (H,)


class Frontier:
    """States of one item, and the map it has seen."""

    def __init__(self, graphs: Graphs, node: int, view: int, start: DecoderState, i: int) -> None:
        first = State(node, view, None, 0.0, 0.0, 0, start.attended[i], start.cell[i])
        self.graphs, self.start = graphs, node
        self.states: dict[StateId, State] = {None: first}
        self.expanded: set[StateId] = set()
        self.finished: list[StateId] = []
        self.walk = [node]
        self.map = KnownMap(graphs)

    def best(self) -> StateId:
        """The unexpanded state of the highest score."""
        fresh = (item for item in self.states.items() if item[0] not in self.expanded)
        return max(fresh, key=lambda item: item[1].score)[0]

    def go(self, node: int, targets: NDArray[np.int64]) -> None:
        """Walk to ``node`` over known edges and look around there."""
        self.map.add(node, targets)
        self.walk += self.map.path(self.walk[-1], node)

    def expand(self, parent: StateId, observation: Observation, row: int, found: Scores) -> None:
        """Add the successors of ``parent``, which stands at ``row`` of the observation."""
        state, count = self.states[parent], int(observation.count[row])
        for action in range(count + 1):
            log_prob = found.log_probs[row][action]
            score = state.score + log_prob
            if action < count:
                name = (state.node, action)
                node = int(observation.target[row, action])
                view = int(observation.candidate_view[row, action])
            else:
                name, node, view = (state.node, STOP), state.node, state.view
            if name not in self.states or score > self.states[name].score:
                self.states[name] = State(
                    node,
                    view,
                    parent,
                    score,
                    log_prob,
                    count + 1,
                    found.state.attended[row],
                    found.state.cell[row],
                )

    def trace(self, name: StateId) -> SearchPath:
        """The path that ends in the stop ``name``."""
        path = SearchPath([], [], [], [], [], [])
        while name is not None:
            state = self.states[name]
            before = self.states[state.parent]
            path.trajectory.append(self._pose(state))
            path.actions.append(name[1])
            path.listener_scores.append(state.log_prob)
            path.num_choices.append(state.num_choices)
            path.nodes.append(before.node)
            path.views.append(before.view)
            name = state.parent
        path.trajectory.append(self._pose(self.states[None]))
        for steps in (path.trajectory, path.actions, path.listener_scores, path.num_choices):
            steps.reverse()
        path.nodes.reverse()
        path.views.reverse()
        return path

    def _pose(self, state: State) -> Pose:
        heading, elevation = VIEW_HEADINGS[state.view], VIEW_ELEVATIONS[state.view]
        return self.graphs.viewpoints[state.node], float(heading), float(elevation)


class Scores(NamedTuple):
    log_probs: list[list[float]]  # (B, K)
    state: DecoderState


class KnownMap:
    """Shortest ways over the edges seen so far, through places visited."""

    def __init__(self, graphs: Graphs) -> None:
        self.graphs = graphs
        self.edges: dict[int, dict[int, float]] = {}

    def add(self, node: int, targets: NDArray[np.int64]) -> None:
        if node not in self.edges:
            lengths = self.graphs.distance(np.full(len(targets), node), targets)
            self.edges[node] = dict(zip(targets.tolist(), lengths.tolist(), strict=True))
            for target, length in self.edges[node].items():
                if target in self.edges:
                    self.edges[target][node] = length

    def path(self, a: int, b: int) -> list[int]:
        """Nodes behind ``a`` up to ``b`` (Dijkstra); empty where they are the same."""
        distance, parent, done = {a: 0.0}, {a: a}, set()
        while b not in done:
            node = min((n for n in distance if n not in done), key=distance.__getitem__)
            done.add(node)
            for target, length in self.edges.get(node, {}).items():
                reached = distance[node] + length
                if reached < distance.get(target, np.inf):
                    distance[target], parent[target] = reached, node
        way = [b] if a != b else []
        while way and parent[way[-1]] != a:
            way.append(parent[way[-1]])
        return way[::-1]
