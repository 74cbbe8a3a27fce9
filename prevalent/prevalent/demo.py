"""``prevalent demo``: does pre-training help an agent in houses it has never seen? A toy answer.

Houses, features and instructions are made by code. One encoder is pre-trained on the training
houses; agents with and without it then learn by imitation and reinforcement, and walk unseen ones.
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

from .agents.simple import r2r_results
from .data.instructions import read_instructions
from .data.results import Reference
from .data.scores import score_results
from .data.tokenizers import build_wordpiece_vocabulary
from .data.toy import ToyConfig, write_toy
from .data.vocabulary import split_words
from .runtime.command import parse
from .runtime.files import write_atomically
from .runtime.logs import read_metrics
from .simulator.connectivity import load_graphs

METRIC = "success_rate"
SPLIT = "val_unseen"
ROWS = ("random", "from scratch", "pre-trained")


@dataclass(frozen=True)
class DemoConfig:
    """Pre-train, train agents with and without it, compare them in unseen houses."""

    run_dir: Path = Path("runs/demo")
    """Folder of everything that the demo makes; the same command continues there."""
    smallest: bool = False
    """A few steps in two houses: does everything run (half a minute)."""
    seeds: int = 3
    """Agents of each kind."""
    pretrain_steps: int = 500
    """Optimizer steps of pre-training."""
    agent_steps: int = 50
    """Optimizer steps of each agent."""
    houses: int = 24
    """Training houses; a quarter as many are unseen."""

    def __post_init__(self) -> None:
        for name in ("seeds", "pretrain_steps", "agent_steps", "houses"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be at least 1, got {getattr(self, name)}")


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent demo --run-dir runs/demo``."""
    demo(parse(DemoConfig, argv, "prevalent demo"))


def demo(config: DemoConfig) -> dict[str, list[float]]:
    """Success rates in unseen houses by row, one a seed; also written to ``demo.md``.

    Pre-training, training and drawing are the commands a user would type, and are printed.
    """
    torch.set_num_threads(1)
    began = time.monotonic()
    if config.smallest:
        config = DemoConfig(
            config.run_dir, smallest=True, seeds=1, pretrain_steps=4, agent_steps=2, houses=1
        )
    world = config.run_dir / "world"
    make_world(world, config)
    data = ["--world", "matterport", "--data-dir", str(world), "--features", "features.npy"]
    data += ["--device", "cpu"]
    pretrained = config.run_dir / "pretrain"
    steps = str(config.pretrain_steps)
    _run(
        *("pretrain", "demo", "--run-dir", str(pretrained), *data, "--vocabulary", "wordpiece.txt"),
        *("--max-steps", steps, "--eval-every", steps, "--save-every", steps),
        *("--angle-size", "32", "--model.num-language-layers", "1"),
        *("--model.num-cross-layers", "1"),
    )
    scores: dict[str, list[float]] = {name: [] for name in ROWS}
    agent = pretrained
    for seed in range(config.seeds):
        scores["random"].append(score_random(world, seed))
        for row in ROWS[1:]:
            agent = config.run_dir / f"{row.replace(' ', '-')}-{seed}"
            start = ["--pretrained", str(pretrained / "model")] if row == "pre-trained" else []
            steps = str(config.agent_steps)
            _run(
                *("train-r2r", "demo", "--run-dir", str(agent), *data, *start, "--wordpieces"),
                *("wordpiece.txt", "--held-out", SPLIT, "--seed", str(seed), "--max-steps", steps),
                *("--eval-every", steps, "--save-every", steps),
            )
            scores[row].append(read_metrics(agent)[-1][f"{SPLIT}/{METRIC}"])
    try:
        _run("trajectories", "--run-dir", str(agent), "--split", SPLIT, "--snapshot", "last",
             "--count", "4")  # fmt: skip
    except subprocess.CalledProcessError:
        print("no trajectory page (see the message above)")
    text = describe(scores, config)
    write_atomically(config.run_dir / "demo.md", text)
    write_atomically(config.run_dir / "demo.json", json.dumps(scores, indent=2) + "\n")
    print(f"{text}\n{time.monotonic() - began:.0f} s; written: {config.run_dir / 'demo.md'}")
    return scores


def make_world(folder: Path, config: DemoConfig) -> None:
    """Write the toy world and its WordPiece vocabulary once."""
    vocabulary = folder / "wordpiece.txt"
    if vocabulary.is_file():
        return
    size = ToyConfig(train_houses=config.houses, unseen_houses=max(1, config.houses // 4))
    if config.smallest:
        size = ToyConfig(
            train_houses=1, unseen_houses=1, train_paths=8, held_out_paths=4, dialogs=2
        )
    write_toy(folder, size)
    texts = [one.text for one in read_instructions(folder, ["train"])]
    words = build_wordpiece_vocabulary(word for text in texts for word in split_words(text))
    vocabulary.write_text("\n".join(words) + "\n")


def score_random(world: Path, seed: int) -> float:
    """Success rate of the random agent in unseen houses."""
    tasks = read_instructions(world, [SPLIT], shuffle_seed=None)
    graphs = load_graphs(world / "connectivity", sorted({task.scan for task in tasks}))
    results = {one["instr_id"]: one for one in r2r_results("random", graphs, tasks, seed=seed)}
    references = [Reference(one.id, one.scan, one.path[0], {"path": one.path}) for one in tasks]
    return score_results(results, references, graphs)[METRIC]


def describe(scores: Mapping[str, Sequence[float]], config: DemoConfig) -> str:
    """The comparison as Markdown, with a verdict that the numbers decide."""
    lines = [
        f"Success rate in unseen toy houses, {config.seeds} seeds, {config.agent_steps} steps of "
        f"imitation and reinforcement each (pre-training: {config.pretrain_steps} steps)",
        "",
        "| agent | mean | least | greatest |",
        "|---|---|---|---|",
    ]
    for name, values in scores.items():
        cells = [sum(values) / len(values), min(values), max(values)]
        lines.append(f"| {name} | " + " | ".join(f"{100 * value:.1f} %" for value in cells) + " |")
    gain = 100 * (np.mean(scores["pre-trained"]) - np.mean(scores["from scratch"]))
    apart = min(scores["pre-trained"]) > max(scores["from scratch"])
    if gain <= 0:
        verdict = f"Pre-training does not help here ({gain:+.1f} points)."
    elif apart:
        verdict = f"Pre-training helps: {gain:+.1f} points, every seed above every seed without it."
    else:
        verdict = f"Pre-training is ahead by {gain:.1f} points, within the spread of the seeds."
    return "\n".join([*lines, "", verdict, ""])


def _run(*words: str) -> None:
    print("$ prevalent " + " ".join(words), flush=True)
    subprocess.run([sys.executable, "-m", "prevalent", *words], check=True)
