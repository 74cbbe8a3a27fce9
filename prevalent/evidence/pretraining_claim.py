"""Does pre-training help an agent that has few annotated paths? Toy houses, several seeds.

    python evidence/pretraining_claim.py --run-dir runs/claim                       # the main table
    python evidence/pretraining_claim.py --run-dir runs/claim --sizes 50            # one size of it
    python evidence/pretraining_claim.py --run-dir runs/claim --table ablations --sizes 20
    python evidence/pretraining_claim.py --run-dir runs/claim --table reading --sizes 50
    python evidence/pretraining_claim.py --run-dir runs/claim --chart agents.png    # and a picture

One encoder is pre-trained on 3,840 instructions of 240 houses, told by templates as the paper's
are told by a speaker. Agents then see 20, 50, 100, 400 or 1,000 of those paths and learn by
imitation and reinforcement with the encoders of `ARMS`; each seed draws paths of its own. Learning
rate and, for random encoders, the spread of the initial weights are chosen for each arm on
val_seen, with 50 paths; ``--as-chosen`` takes those that the records name. ``ablations``
pre-trains three more encoders, without the action, without the views, and without either; an agent
gives no views to an encoder that has seen none.
``reading`` does the same as the main table in houses whose instructions have to be read: other
words for the same landmark, which annotated paths never use, landmarks in sight that do not matter,
and sentences that say which way not to take.

Prints a row a run and the table after each size; runs that are done are not repeated. On one core,
5 minutes for each encoder and 20 to 50 seconds for each agent: about 60 minutes for the main table.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prevalent.data.features import FeatureStore
from prevalent.data.instructions import read_instructions, read_paths
from prevalent.data.tokenizers import (
    build_wordpiece_vocabulary,
    split_words,
    write_vocabulary,
)
from prevalent.data.toy import ToyConfig, write_toy
from prevalent.data.toy_reader import ToyReader
from prevalent.data.toy_texts import STYLES, Style
from prevalent.metrics.navigation import SUCCESS_RADIUS
from prevalent.optimizer import OptimizerConfig
from prevalent.runtime.files import json_text, write_atomically, write_json
from prevalent.runtime.logs import read_metrics
from prevalent.simulator.graph import Graphs
from prevalent.tasks.pretraining import PRETRAIN_PRESETS, PretrainConfig, pretrain
from prevalent.tasks.r2r import R2R_PRESETS, train_r2r

PLAIN = ToyConfig(
    train_houses=240,
    unseen_houses=24,
    train_paths=16,
    held_out_paths=8,
    dialogs=4,
    min_steps=3,
    max_steps=4,
    num_landmarks=16,
)
READING = replace(PLAIN, forms=("synonyms", "negations", "distractors"), told_paths=16)
STYLE: Style = "landmarks"  # where turns are told too, pre-training learns turns long before sights
SIZES, SEEDS = (20, 50, 100, 400, 1000), (0, 1, 2)
TRIAL_SIZE, TRIAL_SEEDS = 50, (0, 1)  # with which the learning rate of an arm is chosen
STEPS_SHOWN_WITH = 100  # annotated paths, in the picture
SPLITS = ("val_seen", "val_unseen")


@dataclass(frozen=True)
class Arm:
    """Where an agent's encoder comes from, and whether it is trained with the agent."""

    encoder: str  # one of ENCODERS; nothing: random weights
    stages: tuple[
        bool, ...
    ]  # is it trained, in parts of equal length; each has a tenth of the rate
    rates: tuple[float, ...] = (1e-3,)  # among which one is chosen
    spreads: tuple[float, ...] = (0.0,)  # standard deviations of random weights, likewise


ENCODERS: dict[str, dict[str, bool]] = {
    "pretrain": {},
    "pretrain-without-action": {"predict_action": False},
    "pretrain-without-views": {"use_images": False},
    "pretrain-words-alone": {"predict_action": False, "use_images": False},
}
"""Folders of pre-training and what differs there."""
ARMS = {
    "random, frozen": Arm("", (False,), spreads=(0.02, 0.1)),
    "pre-trained, frozen": Arm("pretrain", (False,), (1e-3, 3e-3)),
    "from scratch": Arm("", (True,), (1e-3, 3e-3), (0.02, 0.1)),
    "pre-trained, fine-tuned": Arm("pretrain", (True,), (3e-4, 1e-3)),
    "pre-trained, two stages": Arm("pretrain", (False, True)),
}
ABLATIONS = {
    f"{name}, {how}": Arm(encoder, (trained,), (rate,))
    for name, encoder in (
        ("without the action", "pretrain-without-action"),
        ("without views", "pretrain-without-views"),
        ("words alone", "pretrain-words-alone"),
    )
    for how, trained, rate in (("frozen", False, 1e-3), ("fine-tuned", True, 3e-4))
}


@dataclass(frozen=True)
class Trial:
    """One agent."""

    arm: str
    paths: int
    seed: int
    lr: float
    spread: float  # standard deviation of random initial weights; 0 for a pre-trained encoder

    @property
    def name(self) -> str:
        words = f"{self.arm} {self.paths} seed {self.seed} lr {self.lr:g}"
        if self.spread:
            words += f" init {self.spread:g}"
        return words.replace(",", "").replace(" ", "-")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run-dir", type=Path, default=Path("runs/claim"))
    parser.add_argument("--table", choices=("main", "ablations", "reading"), default="main")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="annotated paths")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--arms", nargs="+", help="some of the table's rows, by name")
    parser.add_argument(
        "--as-chosen",
        action="store_true",
        help="do not choose: the first rate and spread of each arm, which the records chose",
    )
    parser.add_argument("--rate", type=float, help="of all rows, instead of choosing")
    parser.add_argument("--steps", type=int, default=200, help="of an agent")
    parser.add_argument("--pretrain-steps", type=int, default=6000)
    parser.add_argument("--houses", type=int, default=PLAIN.train_houses, help="to train in")
    parser.add_argument("--chart", type=Path, help="draw the table as this picture (PNG)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    root, world, arms = options.run_dir, PLAIN, ARMS
    if options.table == "reading":
        root, world = root / "reading", READING
    elif options.table == "ablations":
        arms = ABLATIONS
    if unknown := set(options.arms or ()) - set(arms):
        parser.error(f"--arms: no row is called {min(unknown)!r}; choose from {', '.join(arms)}")
    arms = {name: arm for name, arm in arms.items() if name in (options.arms or arms)}
    unseen = max(1, world.unseen_houses * options.houses // world.train_houses)
    make_world(root / "world", replace(world, train_houses=options.houses, unseen_houses=unseen))
    print(f"a reader by rule who counts the steps: {oracle(root / 'world'):.3f}", flush=True)
    for encoder in sorted({arm.encoder for arm in arms.values()} - {""}):
        pretrain(pretraining(root, encoder, options.pretrain_steps, world))
    chosen = {
        name: Trial(name, TRIAL_SIZE, 0, options.rate or arm.rates[0], arm.spreads[0])
        if options.as_chosen or options.rate
        else choose(root, name, arm, options.steps)
        for name, arm in arms.items()
    }
    rows: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for paths in options.sizes:
        for seed in options.seeds:
            for name, best in chosen.items():
                trial = replace(best, paths=paths, seed=seed)
                rows.setdefault((paths, name), []).append(run(root, trial, options.steps))
        print(describe(rows), flush=True)
        write_atomically(root / f"{options.table}.md", describe(rows))
    if options.chart:
        draw(rows, options.chart)


def make_world(folder: Path, size: ToyConfig) -> None:
    """Write houses, one instruction of each path and their WordPiece vocabulary once."""
    if (folder / "wordpiece.txt").is_file():
        return
    write_toy(folder, size)
    telling = 0 if size.forms else STYLES.index(STYLE)
    texts = []
    for split in ("train", *(["told"] if size.told_paths else []), *SPLITS):
        items = read_paths(folder, split)
        if split in ("train", "told"):
            texts += [text for item in items for text in item["instructions"]]
        for item in items:
            item["instructions"] = [item["instructions"][telling]]
        write_atomically(folder / "r2r" / f"R2R_{split}.json", json_text(items))
    words = build_wordpiece_vocabulary(word for text in texts for word in split_words(text))
    write_vocabulary(folder / "wordpiece.txt", words)


def oracle(folder: Path) -> float:
    """Success in unseen houses of a reader who knows every template and word."""
    tasks = read_instructions(folder, ["val_unseen"])
    graphs = Graphs.load(folder / "connectivity", sorted({task.scan for task in tasks}))
    reader = ToyReader(graphs, FeatureStore.open(folder / "features.npy"))
    rng = np.random.default_rng(0)
    reached = []
    for task in tasks:
        start, goal = graphs.nodes([task.scan] * 2, [task.path[0], task.path[-1]])
        end = reader.walk(split_words(task.text), int(start), task.heading, rng)
        reached.append(graphs.distance(end, int(goal)) < SUCCESS_RADIUS)
    return float(np.mean(reached))


def places(folder: Path) -> dict[str, Any]:
    """The options that name the world in ``folder``."""
    return {
        "world": "matterport",
        "data_dir": folder,
        "features": Path("features.npy"),
        "device": "cpu",
    }


def pretraining(root: Path, encoder: str, steps: int, world: ToyConfig) -> PretrainConfig:
    """The run that pre-trains; its action leaves the plateau of directions at about step 2,200."""
    return replace(
        PRETRAIN_PRESETS["toy"][1],
        **places(root / "world"),
        **ENCODERS[encoder],
        vocabulary=Path("wordpiece.txt"),
        run_dir=root / encoder,
        train=("r2r:told",) if world.told_paths else ("r2r:train",),
        held_out=("r2r:val_unseen",),
        max_steps=steps,
    )


def choose(root: Path, name: str, arm: Arm, steps: int) -> Trial:
    """The learning rate and initial weights that do best on val_seen, the mean of the seeds."""
    options = [
        [Trial(name, TRIAL_SIZE, seed, lr, spread) for seed in TRIAL_SEEDS]
        for lr in arm.rates
        for spread in arm.spreads
    ]
    if len(options) == 1:
        return options[0][0]
    scores = [sum(success(run(root, one, steps), "val_seen") for one in own) for own in options]
    best = options[scores.index(max(scores))][0]
    print(f"{name}: chosen on val_seen: {best.name}", flush=True)
    return best


def run(root: Path, trial: Trial, steps: int) -> dict[str, Any]:
    """Train one agent, or read what it reached: scores after the last step, ``curve`` by step."""
    arm, folder = (ARMS | ABLATIONS)[trial.arm], root / "agents" / trial.name
    done = folder / "scores.json"
    if done.is_file():
        return json.loads(done.read_text())
    preset = R2R_PRESETS["toy"][1]
    began = time.process_time()
    curve: dict[int, dict[str, float]] = {}
    length = steps // len(arm.stages)
    before: Path | None = None
    for stage, trained in enumerate(arm.stages):
        run_dir = folder if len(arm.stages) == 1 else folder / f"stage-{stage + 1}"
        train_r2r(
            replace(
                preset,
                **places(root / "world"),
                run_dir=run_dir,
                wordpieces=Path("wordpiece.txt"),
                train=(str(annotated(root, trial.paths, trial.seed)),),
                held_out=("val_seen@60", "val_unseen"),
                seed=trial.seed,
                max_steps=length,
                eval_every=max(1, min(length, steps // 4)),
                save_every=length,
                start_from=before,
                pretrained=root / arm.encoder / "model" if arm.encoder else None,
                optimizer=OptimizerConfig("adam", lr=trial.lr * 0.1**stage),
                model=replace(
                    preset.model,
                    include_vision=ENCODERS.get(arm.encoder, {}).get("use_images", True),
                    update_language=trained,
                    update_cross=trained,
                ),
                bert=replace(preset.bert, initializer_range=trial.spread or 0.02),
            )
        )
        before = run_dir / "snapshots" / "last"
        curve |= {row["step"] + stage * length: row for row in evaluations(run_dir)}
    scores: dict[str, Any] = dict(curve[max(curve)])
    scores |= {"cpu_seconds": time.process_time() - began, "curve": curve}
    write_json(done, {**asdict(trial), **scores})
    shown = "  ".join(f"{split} {success(scores, split):.3f}" for split in SPLITS)
    print(f"{trial.name}: {shown}", flush=True)
    return scores


def evaluations(run_dir: Path) -> Iterator[dict[str, float]]:
    """Step and scores of every evaluation of a run."""
    for row in read_metrics(run_dir):
        if "val_unseen/success_rate" in row:
            yield {"step": row["step"]} | {k: v for k, v in row.items() if k[:4] == "val_"}


def annotated(root: Path, paths: int, seed: int) -> Path:
    """A file of the training paths that agents of ``seed`` see; larger ones hold smaller ones."""
    file = root / "annotated" / f"{paths}-paths-seed-{seed}.json"
    if not file.is_file():
        items = read_paths(root / "world", "train")
        random.Random(seed).shuffle(items)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json_text(items[:paths]))
    return file


def success(scores: dict[str, Any], split: str) -> float:
    return scores[f"{split}/success_rate"]


def describe(rows: dict[tuple[int, str], list[dict[str, Any]]]) -> str:
    """Mean success rate [least, greatest] in per cent as a Markdown table, and means by step."""
    lines = ["| annotated paths | encoder | seen houses | unseen houses | unseen, by step |"]
    lines.append("|---" * 5 + "|")
    for (paths, name), scores in rows.items():
        cells = []
        for split in SPLITS:
            values = [100 * success(one, split) for one in scores]
            cells.append(f"{sum(values) / len(values):.1f} [{min(values):.1f}, {max(values):.1f}]")
        means = [100 * sum(points) / len(points) for points in by_step(scores).values()]
        cells.append(", ".join(f"{value:.1f}" for value in means))
        lines.append(f"| {paths} | {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def by_step(scores: list[dict[str, Any]]) -> dict[int, list[float]]:
    """Success in unseen houses of every seed, at the steps after which all of them were scored."""
    curves = [{int(step): one for step, one in seed["curve"].items()} for seed in scores]
    shared = sorted(set.intersection(*map(set, curves))) if curves else []
    return {step: [success(one[step], "val_unseen") for one in curves] for step in shared}


def draw(rows: dict[tuple[int, str], list[dict[str, Any]]], picture: Path) -> None:
    """Success in unseen houses by annotated paths, and by step where there are `STEPS_SHOWN_WITH`.

    A line is the mean of the seeds, its band reaches from the least to the greatest.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (by_paths, after) = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for name in dict.fromkeys(arm for _, arm in rows):
        own = {paths: scores for (paths, arm), scores in rows.items() if arm == name}
        points = {paths: [success(one, "val_unseen") for one in own[paths]] for paths in own}
        line(by_paths, points, name)
        line(after, by_step(own.get(STEPS_SHOWN_WITH, [])), name)
    sizes = sorted({paths for paths, _ in rows})
    by_paths.set(xscale="log", xlabel="annotated paths", ylabel="success in unseen houses, %")
    by_paths.set_xticks(sizes, list(map(str, sizes)))
    after.set(xlabel=f"steps of the agent, {STEPS_SHOWN_WITH} annotated paths")
    by_paths.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


def line(axes: Any, points: dict[int, list[float]], name: str) -> None:
    """The mean of each point in per cent, with a band from the least to the greatest."""
    values = [[100 * one for one in found] for found in points.values()]
    axes.plot(list(points), [sum(found) / len(found) for found in values], marker="o", label=name)
    axes.fill_between(list(points), list(map(min, values)), list(map(max, values)), alpha=0.12)


if __name__ == "__main__":
    main()
