"""State-factored search and reranking with a speaker (Fried et al., NeurIPS 2018; EnvDrop).

A state is a viewpoint and the action chosen there. The best unexpanded state is expanded until
enough of them are stops; the agent walks to every state it expands, and that walk is part of the
trajectory it submits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.results import Results, to_results
from ..environments.navigation import Observation, Pose
from ..metrics.navigation import SUCCESS_RADIUS
from ..models.decoders import DecoderState, DecoderStep, PathFeatures, Sight
from ..models.encoders import Words
from ..runtime.transfer import upload
from ..simulator.geometry import VIEW_ELEVATIONS, VIEW_HEADINGS
from ..simulator.graph import Graphs
from .follower import Follower
from .rollout import Batch, Episodes, see
from .speaker import Speaker

MAX_EXPANSIONS = 300


@dataclass
class SearchResult:
    """Everything that was found for one instruction."""

    id: str
    walk: list[str]  # viewpoints passed while searching, back to the start at the end
    paths: list[SearchPath]


@torch.no_grad()
def search(follower: Follower, batch: Batch, candidates: int = 4) -> list[SearchResult]:
    """Find up to ``candidates`` paths for each item of ``batch``, in eval mode.

    Items that have enough leave the batch. A transformer encoder reads the text again at every
    expansion, with the panorama of that place.
    """
    with follower.in_eval_mode():
        searcher = _Searcher(follower, batch)
        frontiers = searcher.frontiers
        active = list(range(len(frontiers)))
        for _ in range(MAX_EXPANSIONS):
            chosen = {i: frontiers[i].best() for i in active}
            searcher.expand(chosen)
            active = [i for i in active if not _is_done(frontiers[i], candidates)]
            if not active:
                break
    names = follower.environment.graphs.viewpoints
    results = []
    for task, frontier in zip(batch.tasks, frontiers, strict=True):
        frontier.walk += frontier.map.path(frontier.walk[-1], frontier.start)
        paths = [frontier.trace(name) for name in frontier.finished]
        results.append(SearchResult(task.id, [names[node] for node in frontier.walk], paths))
    return results


def _is_done(frontier: Frontier, candidates: int) -> bool:
    everything = len(frontier.expanded) == len(frontier.states)
    return len(frontier.finished) >= candidates or everything


class _Searcher:
    """Runs the networks for the states that are expanded together."""

    def __init__(self, follower: Follower, batch: Batch) -> None:
        self.follower, self.environment = follower, follower.environment
        self.features = follower.features
        self.words = Words.of(batch.tokens, self.features.device)
        observation = self.environment.reset(batch.tasks)
        self.goal = self.environment.goal
        self.encoder = follower.policy.encoder
        with follower.updater.precision.autocast():
            self.text = self.encoder.encode_text(self.words)
            sight = see(self.features, observation)
            self.encoding = self.encoder.read(self.words, self._panorama(sight), self.text)
        start = DecoderState(self.encoding.hidden, self.encoding.cell)
        graphs, node, view = self.environment.graphs, observation.node, observation.view
        self.frontiers = [
            Frontier(graphs, int(node[i]), int(view[i]), start, i) for i in range(len(batch.tasks))
        ]

    def _panorama(self, sight: Sight) -> Tensor | None:
        return sight.panorama if self.encoder.sees_images else None

    def expand(self, chosen: dict[int, StateId]) -> None:
        """Visit the ``chosen`` state of each item and expand those that are not stops."""
        items = list(chosen)
        states = [self.frontiers[i].states[chosen[i]] for i in items]
        # The environment looks for whoever stands in it; goals only serve its reward side.
        self.environment.node = np.array([state.node for state in states])
        self.environment.view = np.array([state.view for state in states])
        self.environment.goal = self.goal[items]
        observation = self.environment.observe()
        step = self._decode(items, states, observation)
        scores = Scores(step.logits.log_softmax(dim=1).tolist(), step.state)
        for row, i in enumerate(items):
            frontier, name = self.frontiers[i], chosen[i]
            frontier.expanded.add(name)
            targets = observation.target[row, : observation.count[row]]
            frontier.go(states[row].node, targets)
            if name is not None and name[1] == STOP:
                frontier.finished.append(name)
            else:
                frontier.expand(name, observation, row, scores)

    def _decode(
        self, items: list[int], states: list[State], observation: Observation
    ) -> DecoderStep:
        num_texts = self.encoder.num_texts
        texts = np.array([i * num_texts + j for i in items for j in range(num_texts)])
        words, index = self.words.pick(texts), upload(texts, self.features.device)
        sight = see(self.features, observation)
        with self.follower.updater.precision.autocast():
            if self.encoder.sees_images:
                text = None if self.text is None else self.text.index_select(0, index)
                context = self.encoder.read(words, self._panorama(sight), text).context
            else:
                context = self.encoding.context.index_select(0, index)
            state = DecoderState(
                torch.stack([state.attended for state in states]),
                torch.stack([state.cell for state in states]),
            )
            return self.follower.policy.decoder(sight, state, context, words.padding)


@torch.no_grad()
def rescore(results: Sequence[SearchResult], speaker: Speaker, tokens: NDArray[np.int64]) -> None:
    """Set ``speaker_scores`` of every path: how well the speaker, in eval mode, would say the text.

    Deviation: the authors leave its dropout on.

    Args:
        results: of `search`.
        speaker: describes paths; its graphs must be those of the search.
        tokens: (B, L) the instructions in the speaker's vocabulary.
    """
    with speaker.in_eval_mode():
        for result, row in zip(results, tokens, strict=True):
            path = _path_features(result, speaker)
            cut = speaker.cut(row[None]).expand(len(result.paths), -1)
            scores = speaker.log_probs(path, cut)
            for one, score in zip(result.paths, scores.tolist(), strict=True):
                one.speaker_scores = score


def _path_features(result: SearchResult, speaker: Speaker) -> PathFeatures:
    """Views and chosen candidates of all paths of an item, padded to the longest."""
    features, environment = speaker.features, speaker.environment
    lengths = [len(path.actions) for path in result.paths]
    environment.node = np.concatenate([np.array(path.nodes) for path in result.paths])
    environment.view = np.concatenate([np.array(path.views) for path in result.paths])
    environment.goal = environment.node
    sight = see(features, environment.observe())
    actions = torch.tensor([action for path in result.paths for action in path.actions])
    flat = actions.to(features.device)
    chosen = sight.candidates[torch.arange(len(flat), device=flat.device), flat.clamp(min=0)]
    chosen = chosen * (flat >= 0).unsqueeze(1)
    pad = torch.nn.utils.rnn.pad_sequence
    return PathFeatures(
        pad(chosen.split(lengths), batch_first=True),
        pad(sight.panorama.split(lengths), batch_first=True),
        torch.tensor(lengths, device=features.device),
    )


def path_score(
    path: SearchPath,
    alpha: float = 0.5,
    *,
    mean_speaker: bool = True,
    mean_listener: bool = True,
) -> float:
    """``alpha`` times the speaker's score and (1 - alpha) times the listener's, in nats.

    The flags average each over its length instead of summing.
    """
    listener = sum(path.listener_scores) / (len(path.listener_scores) if mean_listener else 1)
    if not path.speaker_scores:
        return listener
    speaker = sum(path.speaker_scores) / (len(path.speaker_scores) if mean_speaker else 1)
    return alpha * speaker + (1 - alpha) * listener


def choose(result: SearchResult, alpha: float = 0.5, **means: bool) -> list[Pose]:
    """The trajectory to submit: the walk of the search, then the best path."""
    walk: list[Pose] = [(viewpoint, 0.0, 0.0) for viewpoint in result.walk]
    if not result.paths:
        return walk
    best = max(result.paths, key=lambda path: path_score(path, alpha, **means))
    return walk + best.trajectory


class Mixture(NamedTuple):
    """How the scores of a path are put together."""

    alpha: float = 0.5
    """Share of the speaker's score."""
    mean_speaker: bool = True
    mean_listener: bool = True


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
    return to_results(
        ({"instr_id": one.id, "trajectory": choose(one, mixture.alpha, **means)} for one in found),
        "r2r",
    )


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
