"""The graph-based agent: beside the follower in toy houses and on R2R's paths, and with objects.

    python evidence/pretraining_claim.py --run-dir runs/claim --sizes 50      # world and encoder
    python evidence/graph_agent.py --run-dir runs/claim                       # agents there
    python evidence/graph_agent.py --run-dir runs/claim --table reverie       # objects to be named
    python evidence/graph_agent.py --run-dir runs/claim --table r2r --data-dir data

``toy`` shows agents the annotated paths that the followers of ``pretraining_claim.py`` have and
scores them on the same houses; their 60 steps take as long as its 200. ``r2r`` trains both agents
from random weights on R2R with stand-in features, as many steps each as take about two minutes of
one core. Learning rate and, of random weights, their spread are chosen on val_seen with the first
seeds, where an arm lists several. Prints a row a run and the table; runs that are done are not
repeated.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pretraining_claim import SPLITS, annotated, evaluations, places

from prevalent.optimizer import OptimizerConfig
from prevalent.runtime.files import json_text, write_atomically
from prevalent.tasks.graph import PRESETS, GraphRun, train_graph
from prevalent.tasks.r2r import R2R_PRESETS, R2RRun, train_r2r


class Setting(NamedTuple):
    rate: float
    spread: float  # standard deviation of random initial weights

    def __str__(self) -> str:
        return f"rate {self.rate:g} init {self.spread:g}"


@dataclass(frozen=True)
class Arm:
    """An agent and how it is trained."""

    preset: GraphRun | R2RRun
    steps: int
    rates: tuple[float, ...] = (1e-3,)  # among which one is chosen
    spreads: tuple[float, ...] = ()  # standard deviations of random weights, likewise
    pretrained: bool = False

    @property
    def settings(self) -> list[Setting]:
        """Everything that is tried."""
        spreads = self.spreads or (self.preset.bert.initializer_range,)
        return [Setting(rate, spread) for rate in self.rates for spread in spreads]


TOY, FOLLOWER = PRESETS["toy"][1], R2R_PRESETS["toy"][1]
ON_R2R: dict[str, Any] = {
    "world": "matterport",
    "features": None,
    "train": ("train",),
    "held_out": ("val_seen@60", "val_unseen@60"),
}
"""Both agents are of the same width and learn from the same instructions."""
TABLES: dict[str, dict[str, Arm]] = {
    "toy": {
        "graph-based, from scratch": Arm(TOY, 60, spreads=(0.02, 0.1)),
        "graph-based, pre-trained": Arm(TOY, 60, (3e-4, 1e-3), pretrained=True),
    },
    "reverie": {"graph-based": Arm(PRESETS["reverie-toy"][1], 400, (3e-3,))},
    "r2r": {
        "follower": Arm(
            replace(FOLLOWER, **ON_R2R, rollout=replace(FOLLOWER.rollout, max_actions=10)),
            240,
            (5e-4,),
        ),
        "graph-based": Arm(replace(TOY, **ON_R2R), 100, (5e-4,)),
    },
}
METRICS = {
    "toy": ("success_rate",),
    "reverie": ("success_rate", "rgs"),
    "r2r": ("success_rate", "spl", "nav_error"),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run-dir", type=Path, default=Path("runs/claim"))
    parser.add_argument("--table", choices=tuple(TABLES), default="toy")
    parser.add_argument("--arms", nargs="+", help="some of the table's rows, by name")
    parser.add_argument("--paths", type=int, default=50, help="toy: annotated paths")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=2, help="seeds that a rate is chosen with")
    parser.add_argument("--steps", type=int, help="of an agent; default: the table's own")
    parser.add_argument("--rates", type=float, nargs="+", help="default: the table's own")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="r2r: R2R's data")
    options = parser.parse_args(argv)
    arms = TABLES[options.table]
    if unknown := set(options.arms or ()) - set(arms):
        parser.error(f"--arms: no row is called {min(unknown)!r}; choose from {', '.join(arms)}")
    arms = {name: arm for name, arm in arms.items() if name in (options.arms or arms)}
    encoder = options.run_dir / "pretrain/model/model.safetensors"
    if any(arm.pretrained for arm in arms.values()) and not encoder.is_file():
        parser.error(
            f"--run-dir {options.run_dir} has no pre-trained encoder; run "
            "evidence/pretraining_claim.py with the same --run-dir first"
        )
    torch.set_num_threads(1)
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, arm in arms.items():
        steps, rates = options.steps or arm.steps, tuple(options.rates or arm.rates)
        arm = replace(arm, steps=steps, rates=rates)
        best = choose(options, name, arm)
        rows[f"{name}, {best}"] = [run(options, name, arm, best, s) for s in options.seeds]
    table = describe(rows, METRICS[options.table])
    print(table)
    write_atomically(options.run_dir / "graph" / f"{options.table}.md", table)


def choose(options: argparse.Namespace, name: str, arm: Arm) -> Setting:
    """Rate and spread whose agents succeed most often on val_seen, the mean of the seeds."""
    if len(arm.settings) == 1:
        return arm.settings[0]
    scores = {}
    for one in arm.settings:
        trials = [run(options, name, arm, one, s) for s in options.seeds[: options.trials]]
        scores[one] = sum(trial["val_seen/success_rate"] for trial in trials) / len(trials)
    best = max(scores, key=scores.__getitem__)
    shown = ", ".join(f"{one}: {100 * value:.1f} %" for one, value in scores.items())
    print(f"{name}: {best} chosen on val_seen ({shown})", flush=True)
    return best


def run(
    options: argparse.Namespace, name: str, arm: Arm, setting: Setting, seed: int
) -> dict[str, Any]:
    """Train one agent, or read what it reached: scores after the last step, ``curve`` by step."""
    words = f"{options.table} {name} {arm.steps} steps {setting} seed {seed}"
    folder = options.run_dir / "graph" / words.replace(",", "").replace(" ", "-")
    done = folder / "scores.json"
    if done.is_file():
        return json.loads(done.read_text())
    config = replace(
        arm.preset,
        **data_of(options, seed),
        run_dir=folder,
        seed=seed,
        max_steps=arm.steps,
        eval_every=max(1, arm.steps // 2),
        save_every=arm.steps,
        pretrained=options.run_dir / "pretrain/model" if arm.pretrained else None,
        optimizer=OptimizerConfig("adam", lr=setting.rate),
        bert=replace(arm.preset.bert, initializer_range=setting.spread),
    )
    began = time.process_time()
    if isinstance(config, GraphRun):
        train_graph(config)
    else:
        train_r2r(config)
    curve = {int(row["step"]): row for row in evaluations(folder)}
    scores: dict[str, Any] = dict(curve[max(curve)])
    scores |= {"cpu_seconds": time.process_time() - began, "curve": curve}
    write_atomically(done, json_text(scores, indent=2) + "\n")
    shown = "  ".join(
        f"{split}/{metric} {scores[f'{split}/{metric}']:.3f}"
        for split in SPLITS
        for metric in METRICS[options.table]
    )
    print(f"{folder.name}: {shown}  {scores['cpu_seconds']:.0f} CPU s", flush=True)
    return scores


def data_of(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The options that name what agents of ``seed`` learn from and are scored on."""
    if options.table == "r2r":
        return {"data_dir": options.data_dir, "device": "cpu"}
    if options.table == "reverie":
        return {"device": "cpu"}  # makes its own houses
    return places(options.run_dir / "world") | {
        "wordpieces": Path("wordpiece.txt"),
        "train": (str(annotated(options.run_dir, options.paths, seed).resolve()),),
        "held_out": ("val_seen@60", "val_unseen"),
    }


def describe(rows: dict[str, list[dict[str, Any]]], metrics: tuple[str, ...]) -> str:
    """Mean of the seeds [least, greatest] as a Markdown table; rates in per cent, meters."""
    columns = [(split, metric) for metric in metrics for split in SPLITS]
    heads = ["agent, rate", *(f"{split} {metric}" for split, metric in columns), "CPU s"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, scores in rows.items():
        cells = [name]
        for split, metric in columns:
            factor = 1 if metric == "nav_error" else 100
            values = [factor * one[f"{split}/{metric}"] for one in scores]
            mean = sum(values) / len(values)
            cells.append(f"{mean:.2f} [{min(values):.2f}, {max(values):.2f}]")
        cells.append(" ".join(f"{one['cpu_seconds']:.0f}" for one in scores))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
