"""``prevalent demo``: agents learn to follow instructions in houses they have never seen.

``--serve`` shows a page on which its agents, or those of another run, walk step by step.

Houses, features and instructions are made by code. Agents learn by imitation and reinforcement and
walk unseen houses, beside one that walks at random and one that knows the way. With
``--pretrain-steps`` an encoder is pre-trained first, and agents with it are compared too.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch

from .agents.simple import SimpleAgent, hanna_results, ndh_results, r2r_results
from .data.hanna import read_tasks, references
from .data.instructions import read_instructions
from .data.ndh import read_dialogs
from .data.results import Reference, score_results, to_results
from .data.toy import ToyConfig, make_toy_world, toy_size
from .page.app import serve
from .page.explorer import Explorer
from .runtime.command import parse
from .runtime.files import write_atomically, write_json
from .runtime.logs import read_metrics
from .runtime.options import at_least
from .runtime.run_folder import CONFIG
from .simulator.graph import load_graphs

SPLIT = "val_unseen"
SIMPLE: dict[str, SimpleAgent] = {"random": "random", "knows the way": "shortest"}
SCRATCH, WITH_ENCODER = "from scratch", "pre-trained"
FINDING = (
    "Pre-training helps agents with few annotated paths, once it has learned to read and to see, "
    "which takes longer than a demo: docs/experiments.md, Pre-training in toy houses."
)


class DemoTask(NamedTuple):
    """What is compared."""

    verb: str  # its training command, which has a preset "demo"
    metric: str  # of its records
    title: str
    step: str  # what a step of training is
    factor: float  # from the metric to the unit
    unit: str
    difference: str  # the unit of a difference
    digits: int


TASKS = {
    "r2r": DemoTask(
        *("train-r2r", "success_rate", "Success rate", "imitation and reinforcement"),
        *(100.0, "%", "points", 1),
    ),
    "ndh": DemoTask(
        *("train-ndh", "dist_to_end_reduction", "Goal progress", "imitation"),
        *(1.0, "m", "m", 2),
    ),
}


@dataclass(frozen=True)
class Comparison:
    """What both demos have in common."""

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
        at_least(self, seeds=1, pretrain_steps=0, agent_steps=1, houses=1)


@dataclass(frozen=True)
class DemoConfig(Comparison):
    """Train agents in toy houses and compare them in unseen ones."""

    pretrain_steps: int = 0
    """Optimizer steps of pre-training, for agents that begin with its encoder; 0: none."""
    agent_steps: int = 150
    """Optimizer steps of each agent."""

    task: Literal["r2r", "ndh"] = "r2r"
    """Agents follow instructions, or (``ndh``) the oracle's answer in a dialog."""
    serve: bool = False
    """Show a page to watch agents walk instead: of --run-dir, a demo or a run."""
    data_dir: Path | None = None
    """With --serve: data folder in place of the run's own."""
    snapshot: str | None = None
    """With --serve: which agent of each run."""
    host: str = "127.0.0.1"
    """With --serve: the address to listen on; 0.0.0.0 is every network of this machine."""
    port: int = 7860
    """With --serve: the port; 0 takes the first free one from 7860 on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.port < 65536:
            raise ValueError(f"--port must be in [0, 65535], got {self.port}")


def main(argv: Sequence[str]) -> None:
    """Run ``prevalent demo --run-dir runs/demo`` or the same with ``--serve``."""
    config = parse(DemoConfig, argv, "prevalent demo")
    if config.serve:
        explorer = Explorer(config.run_dir, config.data_dir, snapshot=config.snapshot)
        serve(explorer, config.host, config.port)
    else:
        demo(config)


def demo(config: DemoConfig) -> dict[str, list[float]]:
    """Scores in unseen houses by row, one a seed; also written to ``demo.md``.

    Pre-training, training and drawing are the commands a user would type, and are printed.
    """
    torch.set_num_threads(1)
    began = time.monotonic()
    config = shortened(config)
    task, world = TASKS[config.task], config.run_dir / "world"
    encoders: dict[str, list[str]] = {SCRATCH: []}
    make_world(world, config)
    if config.pretrain_steps:
        _, pretrained = pretrain_in_toy_world(config)
        encoders[WITH_ENCODER] = ["--pretrained", str(pretrained / "model")]
    data, steps = data_options(world), str(config.agent_steps)
    scores: dict[str, list[float]] = {name: [] for name in (*SIMPLE, *encoders)}
    prefix = "" if config.task == "r2r" else f"{config.task}-"
    for seed in range(config.seeds):
        for name, kind in SIMPLE.items():
            scores[name].append(score_simple(kind, world, seed, config.task))
        for name, start in encoders.items():
            agent = config.run_dir / f"{prefix}{name.replace(' ', '-')}-{seed}"
            _run(
                *(task.verb, "demo", "--run-dir", str(agent), *data, *start, "--wordpieces"),
                *("wordpiece.txt", "--held-out", SPLIT, "--seed", str(seed), "--max-steps", steps),
                *("--eval-every", steps, "--save-every", steps),
            )
            scores[name].append(read_metrics(agent)[-1][f"{SPLIT}/{task.metric}"])
    if config.task == "r2r":
        _draw(agent)
    text, page = describe(scores, config), config.run_dir / f"{prefix}demo.md"
    write_atomically(page, text)
    write_json(page.with_suffix(".json"), scores)
    print(f"{text}\n{time.monotonic() - began:.0f} s; written: {page}")
    return scores


Demo = TypeVar("Demo", bound=Comparison)


def shortened(config: Demo) -> Demo:
    """``config``, with ``--smallest`` of a few steps; a folder that is a run itself is refused."""
    if (config.run_dir / CONFIG).exists():
        raise ValueError(
            f"--run-dir {config.run_dir} is a run; a demo makes several, choose a folder for them"
        )
    if not config.smallest:
        return config
    return replace(config, seeds=1, pretrain_steps=4, agent_steps=2, houses=1)


def pretrain_in_toy_world(config: Comparison) -> tuple[Path, Path]:
    """The folders of the toy world, made once, and of the run that was pre-trained in it."""
    world, pretrained = config.run_dir / "world", config.run_dir / "pretrain"
    make_world(world, config)
    steps = str(config.pretrain_steps)
    _run(
        *("pretrain", "demo", "--run-dir", str(pretrained), *data_options(world)),
        *("--vocabulary", "wordpiece.txt", "--angle-size", "32"),
        *("--max-steps", steps, "--eval-every", steps, "--save-every", steps),
        *("--model.num-language-layers", "1", "--model.num-cross-layers", "1"),
    )
    return world, pretrained


def data_options(world: Path) -> list[str]:
    """The options that have a command read a toy world."""
    options = ["--world", "matterport", "--data-dir", str(world), "--features", "features.npy"]
    return [*options, "--device", "cpu"]


def make_world(folder: Path, config: Comparison) -> None:
    """Write the toy world and its WordPiece vocabulary once."""
    size = toy_size(config.houses)
    if config.smallest:
        size = ToyConfig(
            train_houses=1, unseen_houses=1, train_paths=8, held_out_paths=4, dialogs=2
        )
    make_toy_world(folder, size, shuffled=isinstance(config, DemoConfig))


def score_simple(agent: SimpleAgent, world: Path, seed: int, task: str = "r2r") -> float:
    """Score in unseen houses of an agent that does not learn."""
    if task == "ndh":
        return _score_simple_in_dialogs(agent, world, seed)
    tasks = read_instructions(world, [SPLIT], shuffle_seed=None)
    graphs = load_graphs(world / "connectivity", sorted({task.scan for task in tasks}))
    results = to_results(r2r_results(agent, graphs, tasks, seed=seed), "r2r")
    references = [Reference(one.id, one.scan, one.path[0], {"path": one.path}) for one in tasks]
    return score_results(results, references, graphs)[TASKS["r2r"].metric]


def _score_simple_in_dialogs(agent: SimpleAgent, world: Path, seed: int) -> float:
    dialogs = read_dialogs(world, SPLIT)
    graphs = load_graphs(world / "connectivity", sorted({dialog.scan for dialog in dialogs}))
    results = to_results(ndh_results(agent, graphs, dialogs, seed=seed), "ndh")
    references = [dialog.reference for dialog in dialogs]
    return score_results(results, references, graphs, "ndh")[TASKS["ndh"].metric]


def describe(scores: Mapping[str, Sequence[float]], config: DemoConfig) -> str:
    """The comparison as Markdown, with a verdict that the numbers decide."""
    task = TASKS[config.task]
    before = f" after {config.pretrain_steps} of pre-training" if WITH_ENCODER in scores else ""
    lines = [
        f"{task.title} in unseen toy houses, {config.seeds} seeds, {config.agent_steps} steps of "
        f"{task.step} each{before}",
        "",
        "| agent | mean | least | greatest |",
        "|---|---|---|---|",
    ]
    for name, values in scores.items():
        cells = [sum(values) / len(values), min(values), max(values)]
        shown = (f"{task.factor * value:.{task.digits}f} {task.unit}" for value in cells)
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    if WITH_ENCODER in scores:
        unit = (task.factor, task.difference, task.digits)
        lines += ["", judge("Pre-training", scores[WITH_ENCODER], scores[SCRATCH], *unit)]
    return "\n".join([*lines, "", FINDING, ""])


def _draw(agent: Path) -> None:
    """A page of trajectories, where matplotlib is there."""
    try:
        _run("trajectories", "--run-dir", str(agent), "--split", SPLIT, "--snapshot", "last",
             "--count", "4")  # fmt: skip
    except subprocess.CalledProcessError:
        print("no trajectory page (see the message above)")


def _run(*words: str) -> None:
    print("$ prevalent " + " ".join(words), flush=True)
    subprocess.run([sys.executable, "-m", "prevalent", *words], check=True)


METRICS = ("success_rate", "spl", "queries_per_ep")
TRAINED_TEXT = (
    *("--model.encoder", "dic", "--model.update-language"),
    *("--wordpieces", "wordpiece.txt"),
)
ROWS_OF_HANNA: dict[str, tuple[str, ...]] = {  # row -> options of train-hanna
    "never asks": ("--rollout.ask", "never"),
    "asks": (),
    "asks, text layers from scratch": TRAINED_TEXT,
    "asks, text layers pre-trained": TRAINED_TEXT,
}
PRETRAINED = "asks, text layers pre-trained"
Scores = dict[str, list[dict[str, float]]]


@dataclass(frozen=True)
class HannaDemoConfig(Comparison):
    """Train agents that ask and that do not, compare them in unseen houses."""

    run_dir: Path = Path("runs/demo-hanna")
    """Folder of everything that the demo makes; the same command continues there."""
    agent_steps: int = 200
    """Optimizer steps of each agent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, pretrain_steps=1)


def main_hanna(argv: Sequence[str]) -> None:
    """Run ``prevalent demo-hanna --run-dir runs/demo-hanna``."""
    demo_hanna(parse(HannaDemoConfig, argv, "prevalent demo-hanna"))


def demo_hanna(config: HannaDemoConfig) -> Scores:
    """Scores in unseen houses by row, one record a seed; also written to ``demo.md``.

    Pre-training and training are the commands a user would type, and are printed.
    """
    torch.set_num_threads(1)
    began = time.monotonic()
    config = shortened(config)
    world, pretrained = pretrain_in_toy_world(config)
    data = data_options(world)
    scores: Scores = {"random": [], **{name: [] for name in ROWS_OF_HANNA}}
    steps = str(config.agent_steps)
    for seed in range(config.seeds):
        scores["random"].append(score_random_searches(world, seed))
        for row, options in ROWS_OF_HANNA.items():
            agent = config.run_dir / f"{row.replace(',', '').replace(' ', '-')}-{seed}"
            start = ["--pretrained", str(pretrained / "model")] if row == PRETRAINED else []
            _run(
                *("train-hanna", "hanna-toy", "--run-dir", str(agent), *data, *options, *start),
                *("--held-out", SPLIT, "--seed", str(seed)),
                *("--max-steps", steps, "--eval-every", steps, "--save-every", steps),
            )
            last = read_metrics(agent)[-1]
            scores[row].append({name: last[f"{SPLIT}/{name}"] for name in METRICS})
    text = describe_searches(scores, config)
    write_atomically(config.run_dir / "demo.md", text)
    write_json(config.run_dir / "demo.json", scores)
    print(f"{text}\n{time.monotonic() - began:.0f} s; written: {config.run_dir / 'demo.md'}")
    return scores


def score_random_searches(world: Path, seed: int) -> dict[str, float]:
    """Scores of the random agent in unseen houses."""
    tasks = read_tasks(world, SPLIT)
    graphs = load_graphs(world / "connectivity", sorted({task.scan for task in tasks}))
    results = to_results(hanna_results("random", graphs, tasks, seed=seed), "hanna")
    scores = score_results(results, references(tasks), graphs, "hanna")
    return {name: scores[name] for name in METRICS}


def describe_searches(
    scores: Mapping[str, Sequence[Mapping[str, float]]], config: HannaDemoConfig
) -> str:
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


def judge(
    name: str,
    ours: Sequence[float],
    others: Sequence[float],
    factor: float = 100.0,
    unit: str = "points",
    digits: int = 1,
) -> str:
    """Whether scores ``ours`` are above ``others``, in one sentence."""
    gain = factor * float(np.mean(ours) - np.mean(others))
    amount = f"{gain:+.{digits}f} {unit}"
    if gain <= 0:
        return f"{name} does not help here ({amount})."
    if min(ours) > max(others):
        return f"{name} helps: {amount}, every seed above every seed without it."
    return f"{name} is ahead by {amount[1:]}, within the spread of the seeds."
