"""A training iteration and greedy evaluation of the R2R agents: the plain way against ours.

An iteration is a teacher roll-out with the imitation loss, a sampled one with the actor-critic loss
on another batch, and one update. The plain way does what the authors' code does: a dictionary for
each agent and step, features copied row by row, choices and moves one agent after the other, the
whole transformer in train mode with a graph at every step, losses added up in Python. Both ways
use the same weights, and their greedy walks are compared before the clock starts.

    python benchmarks/agent_iteration.py [--agents lstm dic --json out.json]

The defaults are a reduced size for about three minutes of one core; the published one is
``--dic-batch 20 --lstm-actions 20 --dic-actions 20``.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from observations import PlainEnvironment, default_connectivity, tasks_of
from pretraining_step import PlainAttention
from torch import Tensor, nn
from torch.nn import functional as F

from prevalent.agent_config import FollowerConfig, RolloutConfig
from prevalent.agents.follower import Follower
from prevalent.agents.rollout import Batch
from prevalent.config import ModelConfig
from prevalent.data.features import DeviceFeatures, FeatureStore
from prevalent.environments.navigation import NavigationEnvironment
from prevalent.models.deferred import DeferredLinear, DeferredLSTMCell
from prevalent.models.encoders import DicEncoder, Encoding, Words, packed_lstm, reverse_words
from prevalent.models.prevalent import PrevalentModel
from prevalent.models.transformer import Attention
from prevalent.objectives import IGNORE
from prevalent.simulator import Graphs
from prevalent.simulator.geometry import angle_features, nearest_view

FLOOR, WORDS, ANGLES = 2.0, 992, 128
PLAIN = {Attention: PlainAttention, DeferredLinear: nn.Linear, DeferredLSTMCell: nn.LSTMCell}
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
    words = Words.of(batch.tokens)
    nodes = [graphs.node(task.scan, task.path[0]) for task in tasks]
    goals = [graphs.node(task.scan, task.path[-1]) for task in tasks]
    views = [int(nearest_view(task.heading, 0.0)) for task in tasks]
    out = Walked(torch.zeros(()), [], [], [], [], [], np.zeros(size, dtype=bool), [nodes.copy()])
    imitation, state, encoding = out.imitation, None, None
    seen = [plain.observe(*one) for one in zip(nodes, views, goals, strict=True)]
    for _ in range(max_actions):
        panorama, candidates, teacher = plain.collate(seen)
        counts = [len(one["candidate"]) for one in seen]
        poses = [
            angle_features((v % 12) * np.pi / 6, (v // 12 - 1) * np.pi / 6, ANGLES) for v in views
        ]
        mask = torch.arange(max(counts) + 1) <= torch.tensor(counts).unsqueeze(1)
        if isinstance(encoder, DicEncoder):
            encoding = plain_text(encoder, words, panorama.clone())
        elif encoding is None:
            encoding = encoder(words)
        if state is None:
            state = (encoding.hidden, encoding.cell)
        pose = torch.from_numpy(np.stack(poses)).float()
        hidden, cell, logits, recalled = plain_decode(
            decoder, pose, panorama, candidates, mask, state, encoding, words.padding
        )
        state = (recalled, cell)
        for i in range(size):
            if out.ended[i]:
                teacher[i] = IGNORE
        imitation = imitation + F.cross_entropy(
            logits, teacher, ignore_index=IGNORE, reduction="sum"
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
        mask, goal = torch.from_numpy(walked.masks[t]), torch.from_numpy(returns.copy())
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


def build(kind: str, graphs: Graphs, store: FeatureStore, max_actions: int, plain: bool):
    torch.manual_seed(0)
    config, bert = FollowerConfig(feature_dropout=0.4), None
    if kind == "dic":
        config = FollowerConfig(encoder="dic", hidden_size=1024, feature_dropout=0.4)
        bert = PrevalentModel(
            ModelConfig(
                WORDS,
                hidden_size=256,
                num_heads=4,
                intermediate_size=1024,
                image_dim=store.width + ANGLES,
            )
        )
    follower = Follower(
        config,
        NavigationEnvironment(graphs, store.rows),
        DeviceFeatures(store, angle_size=ANGLES, resident=True),
        vocab_size=WORDS,
        bert=bert,
        walk=RolloutConfig(max_actions=max_actions),
    ).train()
    if plain:
        for module in follower.modules.values():
            for part in module.modules():
                for kind_, ordinary in PLAIN.items():
                    if isinstance(part, kind_):
                        part.__class__ = ordinary
    return follower


def make_batch(graphs: Graphs, size: int, seed: int) -> Batch:
    """Texts of 10 to 80 words."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, WORDS, size=(size, 80))
    tokens[np.arange(80) >= rng.integers(10, 81, size=(size, 1))] = 0
    return Batch(tasks_of(graphs, size, rng), tokens)


def check_same_walks(
    ours: Follower, plain_agent: Follower, plain, batch: Batch, steps: int
) -> None:
    """Greedy walks of both ways must be the same."""
    with torch.no_grad():
        for agent in (ours, plain_agent):
            agent.train(False)
        ours.rollout(batch, "argmax")
        walked = plain_walk(plain_agent, plain, batch, "argmax", steps)
        if ours.environment.node.tolist() != walked.nodes[-1]:
            raise RuntimeError("the greedy walks of the two ways differ")
    for agent in (ours, plain_agent):
        agent.train()


def time_cpu(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def measure(kind: str, graphs: Graphs, store: FeatureStore, steps: int, args) -> dict[str, Any]:
    """CPU seconds of both ways, taking turns."""
    plain = PlainEnvironment(graphs, store, ANGLES)
    ours, theirs = (build(kind, graphs, store, steps, way) for way in (False, True))
    size = args.batch if kind == "lstm" else args.dic_batch
    batches = [make_batch(graphs, size, seed) for seed in (1, 2)]
    check_same_walks(ours, theirs, plain, batches[0], steps)
    times: dict[str, list[float]] = {}
    ways: dict[str, Callable[[], Any]] = {
        "iteration, plain": lambda: plain_iteration(theirs, plain, batches, steps),
        "iteration, ours": lambda: ours.step(batches[0], batches[1], 0.2),
    }
    if kind == "dic":
        ways["iteration, ours, text once an episode"] = lambda: once(ours, batches)
    ways["evaluation, plain"] = lambda: evaluate_plain(theirs, plain, batches[0], steps)
    ways["evaluation, ours"] = lambda: ours.act(batches[:1])
    for round_ in range(args.rounds + 1):
        for name, work in ways.items():
            seconds = time_cpu(work)
            print(
                f"{kind}, {name}: {seconds:.3f} CPU s, round {round_}", file=sys.stderr, flush=True
            )
            if round_ or not args.warm_up:
                times.setdefault(name, []).append(seconds)
    profiles = {
        name.partition(",")[0]: profile(work) for name, work in ways.items() if "ours" in name
    }
    sizes = {"agent": kind, "batch": size, "max_actions": steps}
    return {**sizes, "seconds": times, "profile": profiles}


def profile(work: Callable[[], Any], rows: int = 8) -> list[tuple[str, float]]:
    """The operations with the largest shares of the CPU time of ``work``, Python left out."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
        work()
    found = sorted(recorded.key_averages(), key=lambda one: -one.self_cpu_time_total)
    total = sum(one.self_cpu_time_total for one in found)
    return [(one.key, one.self_cpu_time_total / total) for one in found[:rows]]


def once(follower: Follower, batches: list[Batch]) -> None:
    walk, reusing = follower.walk, RolloutConfig(follower.walk.max_actions, reuse_text=True)
    follower.walk = reusing
    follower.step(batches[0], batches[1], 0.2)
    follower.walk = walk


@torch.no_grad()
def evaluate_plain(follower: Follower, plain: PlainEnvironment, batch: Batch, steps: int) -> None:
    follower.train(False)
    plain_walk(follower, plain, batch, "argmax", steps)
    follower.train()


def show(row: dict[str, Any]) -> None:
    print(f"{row['agent']}, B = {row['batch']}, {row['max_actions']} moves at most")
    print("| what | median CPU s | min | max | ratio |\n|---|---|---|---|---|")
    row["ratio"] = {}
    for name, own in row["seconds"].items():
        plain = statistics.median(row["seconds"][name.split(",")[0] + ", plain"])
        middle = statistics.median(own)
        row["ratio"][name] = plain / middle
        print(f"| {name} | {middle:.3f} | {min(own):.3f} | {max(own):.3f} | {plain / middle:.2f} |")
    print(f"held against a ratio of {FLOOR:g}", flush=True)
    for name, shares in row["profile"].items():
        listed = ", ".join(f"{operation} {share:.0%}" for operation, share in shares)
        print(f"{name}, ours, where the time goes: {listed}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--connectivity", type=Path)
    parser.add_argument("--agents", nargs="+", choices=["lstm", "dic"], default=["lstm", "dic"])
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--dic-batch", type=int, default=8)
    parser.add_argument("--lstm-actions", type=int, default=10)
    parser.add_argument("--dic-actions", type=int, default=2)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    graphs = Graphs.load(args.connectivity or default_connectivity())
    # A few panoramas are shared by all viewpoints, so that the table fits small machines.
    shared = np.random.default_rng(0).standard_normal((64, 36, args.width), dtype=np.float32)
    store = FeatureStore([str(i) for i in range(64)], shared)
    store.rows = {graphs.long_id(n): n % 64 for n in range(len(graphs.viewpoints))}
    rows = []
    for kind in args.agents:
        steps = args.lstm_actions if kind == "lstm" else args.dic_actions
        rows.append(measure(kind, graphs, store, steps, args))
        show(rows[-1])
    if args.json:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        record = {"what": "R2R agents, CPU seconds, one thread"}
        record |= {"floor": FLOOR, "rows": rows, "peak_rss_mb": peak, "torch": torch.__version__}
        args.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
