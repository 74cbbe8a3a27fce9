"""State-factored search and reranking with a speaker (Fried et al., NeurIPS 2018; EnvDrop).

A state is a viewpoint and the action chosen there. The best unexpanded state is expanded until
enough of them are stops; the agent walks to every state it expands, and that walk is part of the
trajectory it submits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..environments.navigation import Observation
from ..environments.walk import Pose
from ..models.decoder import DecoderState, DecoderStep, Sight
from ..models.encoders import Words
from ..models.speaker import PathFeatures
from .follower import Follower
from .frontier import STOP, Frontier, Scores, SearchPath, State, StateId
from .rollout import Batch
from .speaker import Speaker
from .walker import see

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
    was_training = follower.critic.training
    follower.train(False)
    searcher = _Searcher(follower, batch)
    frontiers = searcher.frontiers
    active = list(range(len(frontiers)))
    for _ in range(MAX_EXPANSIONS):
        chosen = {i: frontiers[i].best() for i in active}
        searcher.expand(chosen)
        active = [i for i in active if not _is_done(frontiers[i], candidates)]
        if not active:
            break
    follower.train(was_training)
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
        index = torch.tensor([i * num_texts + j for i in items for j in range(num_texts)])
        index = index.to(self.features.device)  # rows of the texts
        words = self.words.pick(index)
        sight = see(self.features, observation)
        with self.follower.updater.precision.autocast():
            if self.encoder.sees_images:
                text = None if self.text is None else self.text[index]
                context = self.encoder.read(words, self._panorama(sight), text).context
            else:
                context = self.encoding.context[index]
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
    was_training = speaker.decoder.training
    speaker.train(False)
    for result, row in zip(results, tokens, strict=True):
        path = _path_features(result, speaker)
        cut = speaker.cut(row[None]).expand(len(result.paths), -1)
        scores = speaker.log_probs(path, cut)
        for one, score in zip(result.paths, scores.tolist(), strict=True):
            one.speaker_scores = score
    speaker.train(was_training)


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
