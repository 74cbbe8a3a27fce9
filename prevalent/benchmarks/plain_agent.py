"""The R2R agents as a straightforward port of the authors' code runs them, for comparison.

A dictionary for each agent and step, features copied row by row, choices and moves one agent after
the other, the whole transformer in train mode at every step, losses added up in Python.
"""

from typing import NamedTuple

import numpy as np
import torch
from observations import PlainEnvironment
from torch import Tensor, nn
from torch.nn import functional as F

from prevalent.agents.follower import Follower
from prevalent.agents.rollout import Batch
from prevalent.models.encoders import (
    DicEncoder,
    Encoding,
    WordEncoder,
    Words,
    packed_lstm,
    reverse_words,
)
from prevalent.objectives import IGNORE
from prevalent.simulator.geometry import angle_features, nearest_view

ANGLES = 128
Places = tuple[list[int], list[int], list[int]]  # nodes, views, goals of all agents


class Walked(NamedTuple):
    imitation: Tensor
    log_probs: list[Tensor]
    entropies: list[Tensor]
    hidden: list[Tensor]
    rewards: list[np.ndarray]
    masks: list[np.ndarray]
    ended: np.ndarray
    nodes: list[list[int]]


def plain_words(encoder: WordEncoder, words: Words) -> Encoding:
    """The word encoder with PyTorch's packed LSTM."""
    inputs = encoder.drop(encoder.embedding(words.ids))
    outputs, hidden, cell = packed_lstm(encoder.lstm, inputs, words)
    start = torch.tanh(encoder.encoder2decoder(hidden))
    return Encoding(encoder.drop(outputs), start, cell)


def plain_text(encoder: DicEncoder, words: Words, panorama: Tensor) -> Encoding:
    """The published agent's encoder as its code runs it: everything, at every step."""
    bert = encoder.bert
    bias = ((~words.padding).float() - 1.0)[:, None, None, :] * 10000.0
    text, images = bert.embeddings(words.ids), bert.vision_encoder(panorama)
    for layer in bert.lalayer:
        text = layer(text, bias)
    for layer in bert.addlayer:
        text, images = layer(text, images, bias)
    states = reverse_words(text.detach(), words)
    outputs, hidden, cell = packed_lstm(encoder.lstm, states, words)
    start = torch.tanh(encoder.encoder_lstm2decoder_ht(hidden))
    return Encoding(encoder.drop(outputs), start, encoder.encoder_lstm2decoder_ct(cell))


def plain_decode(decoder, pose, panorama, candidates, mask, state, encoding, padding):
    """One decoder step on whole feature vectors; returns hidden, cell, logits, attended."""
    panorama[..., :-ANGLES] = decoder.drop_env(panorama[..., :-ANGLES])
    candidates[..., :-ANGLES] = decoder.drop_env(candidates[..., :-ANGLES])
    attended, cell = state
    embedded = decoder.drop(decoder.embedding(pose))
    seen = decoder.feat_att_layer.attend(decoder.drop(attended), panorama).context
    hidden, cell = decoder.lstm(torch.cat([embedded, seen], dim=1), (attended, cell))
    recalled, _ = decoder.attention_layer(decoder.drop(hidden), encoding.context, padding)
    logits = decoder.candidate_att_layer.scores(decoder.drop(recalled), candidates, ~mask)
    return hidden, cell, logits, recalled


def plain_walk(
    follower: Follower, plain: PlainEnvironment, batch: Batch, feedback: str, max_actions: int
) -> Walked:
    """Walk ``batch`` one agent after the other."""
    graphs, tasks, size = plain.graphs, batch.tasks, len(batch.tasks)
    encoder, decoder = follower.policy
    device = follower.features.device
    words = Words.of(batch.tokens, device)
    nodes = [graphs.node(task.scan, task.path[0]) for task in tasks]
    goals = [graphs.node(task.scan, task.path[-1]) for task in tasks]
    views = [int(nearest_view(task.heading, 0.0)) for task in tasks]
    out = Walked(
        torch.zeros((), device=device),
        [],
        [],
        [],
        [],
        [],
        np.zeros(size, dtype=bool),
        [nodes.copy()],
    )
    imitation, state, encoding = out.imitation, None, None
    seen = [plain.observe(*one) for one in zip(nodes, views, goals, strict=True)]
    for _ in range(max_actions):
        panorama, candidates, teacher = plain.collate(seen)
        panorama, candidates = panorama.to(device), candidates.to(device)
        counts = [len(one["candidate"]) for one in seen]
        poses = [
            angle_features((v % 12) * np.pi / 6, (v // 12 - 1) * np.pi / 6, ANGLES) for v in views
        ]
        mask = torch.arange(max(counts) + 1) <= torch.tensor(counts).unsqueeze(1)
        if isinstance(encoder, DicEncoder):
            encoding = plain_text(encoder, words, panorama.clone())
        elif encoding is None:
            encoding = plain_words(encoder, words)
        if state is None:
            state = (encoding.hidden, encoding.cell)
        pose = torch.from_numpy(np.stack(poses)).float().to(device)
        hidden, cell, logits, recalled = plain_decode(
            decoder, pose, panorama, candidates, mask.to(device), state, encoding, words.padding
        )
        state = (recalled, cell)
        for i in range(size):
            if out.ended[i]:
                teacher[i] = IGNORE
        imitation = imitation + F.cross_entropy(
            logits, teacher.to(device), ignore_index=IGNORE, reduction="sum"
        )
        out.hidden.append(hidden)
        chosen = plain_choice(out, logits, teacher, feedback)
        seen = plain_move(out, plain, seen, chosen, (nodes, views, goals))
        if out.ended.all():
            break
    return out._replace(imitation=imitation)


def plain_choice(out: Walked, logits: Tensor, teacher: Tensor, feedback: str) -> list[int]:
    """The action of every agent."""
    if feedback == "teacher":
        return teacher.tolist()
    if feedback == "argmax":
        return logits.argmax(dim=1).tolist()
    policy = torch.distributions.Categorical(logits=logits)
    action = policy.sample()
    out.log_probs.append(policy.log_prob(action))
    out.entropies.append(policy.entropy())
    return action.tolist()


def plain_move(
    out: Walked, plain: PlainEnvironment, seen: list[dict], chosen: list[int], places: Places
) -> list[dict]:
    """Move, observe and reward one agent after the other; returns what they see then."""
    nodes, views, goals = places
    size, before = len(seen), [one["distance"] for one in seen]
    rewards, masks = np.zeros(size, dtype=np.float32), np.ones(size, dtype=np.float32)
    stops = [out.ended[i] or chosen[i] in (IGNORE, len(seen[i]["candidate"])) for i in range(size)]
    for i in range(size):
        if not stops[i]:
            candidate = seen[i]["candidate"][chosen[i]]
            nodes[i], views[i] = candidate["target"], candidate["pointId"]
    seen = [plain.observe(*one) for one in zip(nodes, views, goals, strict=True)]
    for i in range(size):
        if out.ended[i]:
            masks[i] = 0.0
        elif stops[i]:
            rewards[i] = 2.0 if seen[i]["distance"] < 3.0 else -2.0
        else:
            rewards[i] = np.sign(before[i] - seen[i]["distance"])
        out.ended[i] |= stops[i]
    out.rewards.append(rewards)
    out.masks.append(masks)
    out.nodes.append(nodes.copy())
    return seen


def plain_iteration(
    follower: Follower, plain: PlainEnvironment, batches: list[Batch], max_actions: int
) -> None:
    """Imitation of one batch, reinforcement on the other, one update."""
    size = len(batches[0].tasks)
    loss = 0.2 * plain_walk(follower, plain, batches[0], "teacher", max_actions).imitation / size
    walked = plain_walk(follower, plain, batches[1], "sample", max_actions)
    returns = np.zeros(size, dtype=np.float32)
    for t in reversed(range(len(walked.rewards))):
        returns = 0.9 * returns + walked.rewards[t]
        parts = (walked.masks[t], returns.copy())
        mask, goal = (torch.from_numpy(part).to(walked.imitation.device) for part in parts)
        value = follower.critic(walked.hidden[t])
        advantage = (goal - value).detach()
        loss = loss + (-walked.log_probs[t] * advantage * mask).sum() / size
        loss = loss + 0.5 * ((goal - value).square() * mask).sum() / size
        loss = loss - 0.01 * (walked.entropies[t] * mask).sum() / size
    loss.backward()
    for name in ("encoder", "decoder"):
        nn.utils.clip_grad_norm_(follower.modules[name].parameters(), 40.0)
    for optimizer in follower.optimizers.values():
        optimizer.step()
        optimizer.zero_grad()
