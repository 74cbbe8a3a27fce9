"""Walks with everything that was seen, weighed and read on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..environments.walk import Task
from ..models.encoders import Words
from ..simulator.candidates import Candidates, candidates_of
from ..simulator.geometry import VIEW_HEADINGS, nearest_view
from ..simulator.graph import Graphs
from .episodes import Tokenizer
from .follower import Follower
from .rollout import Batch
from .simple import R2R_STEPS, SimpleAgent, walk


class Step(NamedTuple):
    """One decision. Agents that weigh and read nothing have empty lists."""

    node: int
    heading: float  # radians, where the agent faces
    targets: list[int]  # K candidates, STOP left out
    directions: list[float]  # K headings in radians, absolute
    scores: list[float]  # K + 1 logits, STOP last
    probabilities: list[float]  # K + 1, STOP last
    action: int  # K = STOP
    attention: NDArray[np.float32]  # (W,) over the words, in reading order


class Trace(NamedTuple):
    """A walk with all that was weighed on the way."""

    task: Task
    text: str
    words: list[str]  # W
    steps: list[Step]
    nodes: list[int]  # places passed, the start included


class _Decision(NamedTuple):
    """What a policy has made of one observation."""

    action: int
    scores: Sequence[float] = ()
    probabilities: Sequence[float] = ()
    attention: NDArray[np.float32] = np.zeros(0, dtype=np.float32)


@torch.no_grad()
def trace(follower: Follower, batch: Batch, tokenizer: Tokenizer) -> list[Trace]:
    """Walk ``batch`` greedily and record every decision."""
    follower.train(False)
    recorded = follower.rollout(batch, "argmax", keep_steps=True)
    environment = follower.environment
    logits = [step.logits.float().cpu() for step in recorded.steps]
    probabilities = [one.softmax(dim=1).numpy() for one in logits]
    attentions = [step.words.float().cpu().numpy() for step in recorded.steps]
    ids = Words.of(batch.tokens).ids.numpy()  # (B M, T)
    texts = ids.reshape(len(batch.tasks), -1, ids.shape[1])
    backwards = follower.config.encoder == "dic" and follower.config.reverse_input
    traces = []
    for i, task in enumerate(batch.tasks):
        lengths = (texts[i] != 0).sum(axis=1).tolist()
        words = [tokenizer.decode([token]) for token in texts[i][texts[i] != 0]]
        decisions = [
            _Decision(
                int(recorded.actions[t, i]),
                logits[t][i].tolist(),
                probabilities[t][i].tolist(),
                _reading_order(attentions[t][i], lengths, backwards),
            )
            for t in range(len(recorded.steps))
        ]
        traces.append(_follow(environment.graphs, environment.candidates, task, words, decisions))
    return traces


def trace_simple(agent: SimpleAgent, graphs: Graphs, task: Task, seed: int = 0) -> Trace:
    """The walk of an agent that does not learn; it decides without scores."""
    poses = walk(agent, graphs, [task], max_steps=R2R_STEPS, seed=seed)[0]
    found, node, decisions = candidates_of(graphs), graphs.node(task.scan, task.path[0]), []
    for viewpoint, _, _ in poses:
        after = graphs.node(task.scan, viewpoint)
        if after != node:
            decisions.append(_Decision(found.target[node].tolist().index(after)))
            node = after
    decisions.append(_Decision(int(found.count[node])))
    return _follow(graphs, found, task, [], decisions)


def _follow(
    graphs: Graphs,
    found: Candidates,
    task: Task,
    words: list[str],
    decisions: Sequence[_Decision],
) -> Trace:
    """The steps of one agent up to its stop."""
    node = graphs.node(task.scan, task.path[0])
    heading, steps, nodes = float(VIEW_HEADINGS[nearest_view(task.heading, 0.0)]), [], [node]
    for action, scores, probabilities, attention in decisions:
        count = int(found.count[node])
        steps.append(
            Step(
                node,
                heading,
                found.target[node, :count].tolist(),
                found.heading[node, :count].tolist(),
                list(scores[: count + 1]),
                list(probabilities[: count + 1]),
                action,
                attention,
            )
        )
        if action >= count:
            break
        heading = float(VIEW_HEADINGS[found.view[node, action]])
        node = int(found.target[node, action])
        nodes.append(node)
    return Trace(task, getattr(task, "text", ""), words, steps, nodes)


def _reading_order(
    weights: NDArray[np.float32], lengths: Sequence[int], backwards: bool
) -> NDArray[np.float32]:
    """Weights (M T) over M padded texts as weights over their words, read from the start."""
    texts = weights.reshape(len(lengths), -1)
    parts = [text[:length] for text, length in zip(texts, lengths, strict=True)]
    return np.concatenate([part[::-1] if backwards else part for part in parts])
