"""``prevalent demo-hanna``: does asking for help pay, and does pre-training? A toy answer.

Houses, features, searches and ANNA's routes are made by code. Agents that never ask, that ask, and
that ask with text layers pre-trained or from random weights learn by imitation and then search in
houses they have never seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .agents.simple import hanna_results
from .data.assistance import read_tasks, references
from .data.corpus import make_toy_world
from .data.scores import score_results
from .runtime.command import parse
from .runtime.distributed import World
from .runtime.files import write_atomically
from .runtime.logs import read_metrics
from .simulator.connectivity import load_graphs

SPLIT = "val_unseen"
METRICS = ("success_rate", "spl", "queries_per_ep")
TRAINED_TEXT = ("--model.encoder", "dic", "--model.update-language")
ROWS: dict[str, tuple[str, ...]] = {  # row -> options of train-hanna
    "never asks": ("--search.ask", "never"),
    "asks": (),
    "asks, text layers from scratch": TRAINED_TEXT,
    "asks, text layers pre-trained": TRAINED_TEXT,
}
PRETRAINED = "asks, text layers pre-trained"
Scores = dict[str, list[dict[str, float]]]


@dataclass(frozen=True)
class HannaDemoConfig:
    """Train agents that ask and that do not, compare them in unseen houses."""

    run_dir: Path = Path("runs/demo-hanna")
    """Folder of everything that the demo makes; the same command continues there."""
    smallest: bool = False
    """A few steps in two houses: does everything run."""
    seeds: int = 3
    """Agents of each kind."""
    pretrain_steps: int = 500
    """Optimizer steps of pre-training."""
    agent_steps: int = 200
    """Optimizer steps of each agent."""
    houses: int = 24
    """Training houses; a quarter as many are unseen."""

    def __post_init__(self) -> None:
        for name in ("seeds", "pretrain_steps", "agent_steps", "houses"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be at least 1, got {getattr(self, name)}")


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent demo-hanna --run-dir runs/demo-hanna``."""
    demo_hanna(parse(HannaDemoConfig, argv, "prevalent demo-hanna"))


def demo_hanna(config: HannaDemoConfig) -> Scores:
    """Scores in unseen houses by row, one record a seed; also written to ``demo.md``.

    Pre-training and training are the commands a user would type, and are printed.
    """
    torch.set_num_threads(1)
    began = time.monotonic()
    if config.smallest:
        config = HannaDemoConfig(
            config.run_dir, smallest=True, seeds=1, pretrain_steps=4, agent_steps=2, houses=1
        )
    world = config.run_dir / "world"
    make_toy_world(world, config.houses, World(0, 1, torch.device("cpu")))
    data = ["--world", "matterport", "--data-dir", str(world), "--features", "features.npy"]
    data += ["--device", "cpu"]
    pretrained, steps = config.run_dir / "pretrain", str(config.pretrain_steps)
    _run(
        *("pretrain", "demo", "--run-dir", str(pretrained), *data, "--vocabulary", "wordpiece.txt"),
        *("--max-steps", steps, "--eval-every", steps, "--save-every", steps),
        *("--angle-size", "32", "--model.num-language-layers", "1"),
        *("--model.num-cross-layers", "1"),
    )
    scores: Scores = {"random": [], **{name: [] for name in ROWS}}
    steps = str(config.agent_steps)
    for seed in range(config.seeds):
        scores["random"].append(score_random(world, seed))
        for row, options in ROWS.items():
            agent = config.run_dir / f"{row.replace(',', '').replace(' ', '-')}-{seed}"
            start = ["--pretrained", str(pretrained / "model")] if row == PRETRAINED else []
            _run(
                *("train-hanna", "hanna-toy", "--run-dir", str(agent), *data, *options, *start),
                *("--wordpieces", "wordpiece.txt", "--held-out", SPLIT, "--seed", str(seed)),
                *("--max-steps", steps, "--eval-every", steps, "--save-every", steps),
            )
            last = read_metrics(agent)[-1]
            scores[row].append({name: last[f"{SPLIT}/{name}"] for name in METRICS})
    text = describe(scores, config)
    write_atomically(config.run_dir / "demo.md", text)
    write_atomically(config.run_dir / "demo.json", json.dumps(scores, indent=2) + "\n")
    print(f"{text}\n{time.monotonic() - began:.0f} s; written: {config.run_dir / 'demo.md'}")
    return scores


def score_random(world: Path, seed: int) -> dict[str, float]:
    """Scores of the random agent in unseen houses."""
    tasks = read_tasks(world, SPLIT)
    graphs = load_graphs(world / "connectivity", sorted({task.scan for task in tasks}))
    results = {one["instr_id"]: one for one in hanna_results("random", graphs, tasks, seed=seed)}
    scores = score_results(results, references(tasks), graphs, "hanna")
    return {name: scores[name] for name in METRICS}


def describe(scores: Mapping[str, Sequence[Mapping[str, float]]], config: HannaDemoConfig) -> str:
    """The comparison as Markdown, with verdicts that the numbers decide."""
    lines = [
        f"Searches in unseen toy houses, {config.seeds} seeds, {config.agent_steps} steps of "
        f"imitation each (pre-training: {config.pretrain_steps} steps): mean [least, greatest]",
        "",
        "| agent | success | SPL | requests |",
        "|---|---|---|---|",
    ]
    for row, records in scores.items():
        cells = []
        for metric, scale, unit in zip(METRICS, (100, 100, 1), (" %", " %", ""), strict=True):
            values = [scale * one[metric] for one in records]
            cells.append(f"{np.mean(values):.1f}{unit} [{min(values):.1f}, {max(values):.1f}]")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    successes = {row: [one["success_rate"] for one in records] for row, records in scores.items()}
    return "\n".join(
        [
            *lines,
            "",
            judge("Asking", successes["asks"], successes["never asks"]),
            judge(
                "Pre-training",
                successes[PRETRAINED],
                successes["asks, text layers from scratch"],
            ),
            "",
        ]
    )


def judge(name: str, ours: Sequence[float], others: Sequence[float]) -> str:
    """Whether success rates ``ours`` are above ``others``, in one sentence."""
    gain = 100 * float(np.mean(ours) - np.mean(others))
    if gain <= 0:
        return f"{name} does not help here ({gain:+.1f} points)."
    if min(ours) > max(others):
        return f"{name} helps: {gain:+.1f} points, every seed above every seed without it."
    return f"{name} is ahead by {gain:.1f} points, within the spread of the seeds."


def _run(*words: str) -> None:
    print("$ prevalent " + " ".join(words), flush=True)
    subprocess.run([sys.executable, "-m", "prevalent", *words], check=True)
