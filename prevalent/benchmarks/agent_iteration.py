"""A training iteration and greedy evaluation of the R2R agents: the plain way against ours.

An iteration is a teacher roll-out with the imitation loss, a sampled one with the actor-critic loss
on another batch, and one update. The plain way does what the authors' code does: a dictionary for
each agent and step, features copied row by row, choices and moves one agent after the other, the
whole transformer in train mode with a graph at every step, losses added up in Python. Both ways
use the same weights, and their greedy walks are compared.

    python benchmarks/agent_iteration.py [--agents lstm dic --json out.json]

``--what evaluation`` or ``iteration`` measures one of the two and keeps what is known of the other.
With ``--device cuda`` both ways compute there, with the features in its memory; seconds are those
between two events of its stream, memory is the most that was allocated.
The defaults are the published size and take about five minutes of one quiet core; a quick look is
``--dic-batch 8 --lstm-actions 10 --dic-actions 2``.
"""

import argparse
import gc
import json
import math
import os
import statistics
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from observations import PlainEnvironment, default_connectivity, tasks_of
from plain_agent import ANGLES, plain_iteration, plain_walk
from pretraining_step import PlainAttention
from torch import nn
from torch.autograd import DeviceType

from prevalent.agents.follower import Follower, FollowerConfig
from prevalent.agents.rollout import Batch, RolloutConfig
from prevalent.config import ModelConfig
from prevalent.data.features import DeviceFeatures, FeatureStore
from prevalent.environments.navigation import NavigationEnvironment
from prevalent.models.decoders import FeatureDropout
from prevalent.models.kernels import DeferredLinear, DeferredLSTMCell
from prevalent.models.prevalent import Attention, PrevalentModel
from prevalent.runtime.files import json_text
from prevalent.runtime.measuring import peak_memory, product_speed, seconds_of, unit_of
from prevalent.simulator import Graphs

TARGET, WORDS = 2.0, 992
PLAIN = {
    Attention: PlainAttention,
    DeferredLinear: nn.Linear,
    DeferredLSTMCell: nn.LSTMCell,
    FeatureDropout: nn.Dropout,
}
# Operations of the forward passes, with all that they call.
PARTS = {
    "matrix products": ("mkldnn::_linear_pointwise", "aten::mm", "aten::bmm", "aten::addmm"),
    "LSTM over the words": ("_Direction", "aten::_cudnn_rnn"),
    "attention of the transformer": ("aten::scaled_dot_product_attention",),
}


def build(
    kind: str, graphs: Graphs, store: FeatureStore, max_actions: int, plain: bool, device: str
):
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
        DeviceFeatures(store, device, angle_size=ANGLES, resident=True),
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
                        part.inplace = False  # what a Dropout has besides
    return follower


def make_batch(graphs: Graphs, size: int, seed: int) -> Batch:
    """Texts of 10 to 80 words."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(3, WORDS, size=(size, 80))
    tokens[np.arange(80) >= rng.integers(10, 81, size=(size, 1))] = 0
    return Batch(tasks_of(graphs, size, rng), tokens)


def measured(work: Callable[[], Any], device: str) -> tuple[float, float]:
    """Seconds of ``work`` and the peak memory meanwhile in MB; see `peak_memory`."""
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # forgets the last peak
    return seconds_of(work, device), peak_memory(device)


class Contest:
    """Both ways of one agent, taking turns.

    Args:
        kind: of the agent.
        graphs: scans.
        store: features.
        args: sizes and rounds.
    """

    def __init__(self, kind: str, graphs: Graphs, store: FeatureStore, args) -> None:
        self.kind, self.args = kind, args
        self.steps = args.lstm_actions if kind == "lstm" else args.dic_actions
        self.size = args.batch if kind == "lstm" else args.dic_batch
        self.plain = PlainEnvironment(graphs, store, ANGLES)
        self.ours, self.theirs = (
            build(kind, graphs, store, self.steps, way, args.device) for way in (False, True)
        )
        self.batches = [make_batch(graphs, self.size, seed) for seed in (1, 2)]
        first = self.batches[0]
        copies = max(args.large // self.size, 1)
        self.many = Batch(list(first.tasks) * copies, np.tile(first.tokens, (copies, 1)))
        self.ends: dict[str, list[int]] = {}

    def ways(self) -> dict[str, tuple[Callable[[], Any], int]]:
        """Name -> what to run, and for how many batches it does the work of one."""
        found: dict[str, tuple[Callable[[], Any], int]] = {
            "evaluation, plain": (self.evaluate_plain, 1),
            "evaluation, ours": (self.evaluate, 1),
        }
        if self.kind in self.args.large_agents:
            name = f"evaluation, ours, B = {len(self.many.tasks)}"
            found[name] = (lambda: self.ours.act([self.many]), len(self.many.tasks) // self.size)
        found["iteration, plain"] = (self.iterate_plain, 1)
        found["iteration, ours"] = (lambda: self.ours.step(*self.batches, 0.2), 1)
        if self.kind == "dic" and self.args.text_once:
            found["iteration, ours, text once an episode"] = (self.iterate_once, 1)
        return {name: way for name, way in found.items() if name.split(",")[0] in self.args.what}

    @torch.no_grad()
    def evaluate_plain(self) -> None:
        self.theirs.train(False)
        walked = plain_walk(self.theirs, self.plain, self.batches[0], "argmax", self.steps)
        self.ends["plain"] = walked.nodes[-1]
        self.theirs.train()

    def evaluate(self) -> None:
        self.ours.act(self.batches[:1])
        self.ends["ours"] = self.ours.environment.node.tolist()

    def iterate_plain(self) -> None:
        plain_iteration(self.theirs, self.plain, self.batches, self.steps)

    def iterate_once(self) -> None:
        walk, reusing = self.ours.walk, RolloutConfig(self.ours.walk.max_actions, reuse_text=True)
        self.ours.walk = reusing
        self.ours.step(*self.batches, 0.2)
        self.ours.walk = walk

    def measure(self) -> dict[str, Any]:
        """Seconds and memory of both ways, and the profile of ours."""
        seconds: dict[str, list[float]] = {}
        memory: dict[str, float] = {}
        rounds = self.args.rounds if self.kind == "lstm" else self.args.dic_rounds
        unit = unit_of(self.args.device)
        warm, ways = int(self.args.warm_up and rounds > 1), self.ways()
        evaluations = [name for name in ways if name.startswith("evaluation")]
        iterations = [name for name in ways if name not in evaluations]
        # All evaluations before the first iteration: they are of one agent, as in a split.
        turns = [(names, r) for names in (evaluations, iterations) for r in range(rounds + warm)]
        for names, round_ in turns:
            for name in names:
                work, batches = ways[name]
                torch.manual_seed(round_)
                spent, peak = measured(work, self.args.device)
                told = f"{self.kind}, {name}: {spent / batches:.3f} {unit}, round {round_}"
                print(told, file=sys.stderr, flush=True)
                memory[name] = max(memory.get(name, 0.0), peak)
                if round_ >= warm:
                    seconds.setdefault(name, []).append(spent / batches)
            if self.ends.get("plain") != self.ends.get("ours"):
                raise RuntimeError("the greedy walks of the two ways differ")
        profiles = {
            f"{name}, ours": profile(ways[f"{name}, ours"][0], self.args.device)
            for name in self.args.what
        }
        sizes = {"agent": self.kind, "batch": self.size, "max_actions": self.steps, "unit": unit}
        return {**sizes, "seconds": seconds, "memory_mb": memory, "profile": profiles}


def profile(work: Callable[[], Any], device: str, rows: int = 8) -> dict[str, Any]:
    """The largest shares of the time of ``work``, Python left out, and its floor in seconds.

    On a CUDA device it is the time of the kernels that an operation has started.
    """
    kinds = torch.profiler.ProfilerActivity
    activities, clock = [kinds.CPU], "cpu"
    if device == "cuda":
        activities, clock = [kinds.CPU, kinds.CUDA], "device"
    with torch.profiler.profile(activities=activities, record_shapes=True) as recorded:
        work()
    found = [one for one in recorded.key_averages() if one.device_type == DeviceType.CPU]
    spent = {one.key: getattr(one, f"self_{clock}_time_total") for one in found}
    total = sum(spent.values())
    largest = sorted(spent, key=lambda key: -spent[key])[:rows]
    whole = {one.key: getattr(one, f"{clock}_time_total") / total for one in found}
    parts = {name: sum(whole.get(key, 0.0) for key in keys) for name, keys in PARTS.items()}
    by_shape = recorded.key_averages(group_by_input_shape=True)
    operations = sum(one.count * product_size(one.key, one.input_shapes) for one in by_shape)
    shares = [(key, spent[key] / total) for key in largest]
    return {"shares": shares, "parts": parts, "floor_s": operations / product_speed(device)}


def product_size(name: str, shapes: list[list[int]]) -> int:
    """Floating-point operations of a matrix product, 0 of anything else."""
    if name == "mkldnn::_linear_pointwise":
        return 2 * math.prod(shapes[0]) * shapes[1][0]
    if name in ("aten::mm", "aten::bmm"):
        return 2 * math.prod(shapes[0]) * shapes[1][-1]
    if name == "aten::addmm":
        return 2 * math.prod(shapes[1]) * shapes[2][-1]
    return 0


def show(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Print the table of one agent; returns the lines of the collected benchmarks."""
    agent = f"{row['agent']} agent, B = {row['batch']}, {row['max_actions']} moves"
    print(f"{agent} at most")
    print(f"| what | median {row['unit']} | min | max | ratio | floor | peak MB |")
    print("|---|---|---|---|---|---|---|")
    lines = []
    for name, own in row["seconds"].items():
        against = name.split(",")[0] + ", plain"
        plain, middle = statistics.median(row["seconds"][against]), statistics.median(own)
        floor = row["profile"].get(name, {}).get("floor_s")
        memory = row["memory_mb"]
        told = "" if floor is None else f"{floor:.3f}"
        print(
            f"| {name} | {middle:.3f} | {min(own):.3f} | {max(own):.3f} | {plain / middle:.2f} "
            f"| {told} | {memory[name]:.0f} |"
        )
        if name != against:
            known = memory[against] > 0 and "B =" not in name
            line = {"what": f"{agent}: {name.replace(', ours', '')}", "plain": plain}
            line |= {"ours": middle, "unit": row["unit"], "ratio": plain / middle, "target": TARGET}
            line |= {
                "floor": floor,
                "memory_ratio": memory[name] / memory[against] if known else None,
            }
            lines.append(line)
    print(f"held against a ratio of {TARGET:g}", flush=True)
    for name, found in row["profile"].items():
        listed = ", ".join(f"{operation} {share:.0%}" for operation, share in found["shares"])
        print(f"{name}, where the time goes: {listed}")
        told = ", ".join(f"{part} {share:.0%}" for part, share in found["parts"].items())
        print(f"{name}, by part: {told}")
    return lines


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--connectivity", type=Path)
    add("--agents", nargs="+", choices=["lstm", "dic"], default=["lstm", "dic"])
    add(
        "--what",
        nargs="+",
        choices=["evaluation", "iteration"],
        default=["evaluation", "iteration"],
    )
    add("--batch", type=int, default=20)
    add("--dic-batch", type=int, default=20)
    add("--lstm-actions", type=int, default=20)
    add("--dic-actions", type=int, default=20)
    add("--width", type=int, default=2048)
    add("--rounds", type=int, default=3)
    add("--dic-rounds", type=int, default=1, help="one takes about four minutes")
    add("--large", type=int, default=100, help="episodes that our evaluation walks together")
    add("--large-agents", nargs="*", choices=["lstm", "dic"], default=["lstm"])
    add("--text-once", action="store_true", help="the text layers once an episode in training too")
    add("--warm-up", action=argparse.BooleanOptionalAction, default=True)
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--json", type=Path, help="the record; by default results/agent_iteration.json, of a CUDA "
        "device results/agent_iteration_cuda.json")  # fmt: skip
    args = parser.parse_args()
    name = "agent_iteration" if args.device == "cpu" else "agent_iteration_cuda"
    args.json = args.json or Path(__file__).parent / f"results/{name}.json"
    return args


def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    graphs = Graphs.load(args.connectivity or default_connectivity())
    # A few panoramas are shared by all viewpoints, so that the table fits small machines.
    shared = np.random.default_rng(0).standard_normal((64, 36, args.width), dtype=np.float32)
    store = FeatureStore([str(i) for i in range(64)], shared)
    store.rows = {graphs.long_id(n): n % 64 for n in range(len(graphs.viewpoints))}
    record: dict[str, Any] = {"what": f"R2R agents, {unit_of(args.device)} of one batch"}
    record |= {"device": args.device, "target": TARGET, "torch": torch.__version__}
    before = json.loads(args.json.read_text()) if args.json.is_file() else {}
    record |= {name: before.get(name, []) for name in ("rows", "headline")}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    for kind in args.agents:  # the lines of what is not asked for stay
        row = Contest(kind, graphs, store, args).measure()
        record["headline"] = merge(record["headline"], show(row), ("what",))
        record["rows"] = merge(record["rows"], [row], ("agent", "batch", "max_actions"))
        args.json.write_text(json_text(record, indent=2) + "\n")


def merge(before: list[dict], found: list[dict], keys: tuple[str, ...]) -> list[dict]:
    """``before`` with ``found`` in place of rows of the same ``keys``, whose tables grow."""
    rows = {tuple(one[key] for key in keys): one for one in before}
    for one in found:
        place = tuple(one[key] for key in keys)
        old = rows.get(place, {})
        rows[place] = {
            name: {**old.get(name, {}), **value} if isinstance(value, dict) else value
            for name, value in one.items()
        }
    return list(rows.values())


if __name__ == "__main__":
    main()
