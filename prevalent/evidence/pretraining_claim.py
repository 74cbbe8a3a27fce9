"""Does pre-training help an agent that has few annotated paths? Toy houses, several seeds.

    python evidence/pretraining_claim.py --run-dir runs/claim              # pre-train, then agents
    python evidence/pretraining_claim.py --run-dir runs/claim --sizes 50   # agents of one size

One encoder is pre-trained on 3,840 instructions of 240 houses, told by templates as the paper's
are told by a speaker. Agents then see 20, 50, 100 or 400 of those paths and learn by imitation and
reinforcement with the encoders of `ARMS`; each seed draws paths of its own. Learning rate and, for
random encoders, the spread of the initial weights are chosen for each arm on val_seen, with seed 0
and 50 paths. Prints a row a run and the table after each size; runs that are done are not repeated.
About two hours on one core: 10 minutes for the pre-training and one for each of 60 agents.
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

import torch

from prevalent.data.instructions import read_paths
from prevalent.data.tokenizers import (
    build_wordpiece_vocabulary,
    split_words,
    write_vocabulary,
)
from prevalent.data.toy import STYLES, Style, ToyConfig, write_toy
from prevalent.optimizer import OptimizerConfig
from prevalent.runtime.files import json_text, write_atomically, write_json
from prevalent.runtime.logs import read_metrics
from prevalent.tasks.pretraining import PRETRAIN_PRESETS, PretrainConfig, pretrain
from prevalent.tasks.r2r import R2R_PRESETS, train_r2r

WORLD = ToyConfig(
    train_houses=240,
    unseen_houses=24,
    train_paths=16,
    held_out_paths=8,
    dialogs=4,
    min_steps=3,
    max_steps=4,
    num_landmarks=16,
)
STYLE: Style = "landmarks"  # where turns are told too, pre-training learns turns long before sights
SIZES, SEEDS = (50, 100, 20, 400), (0, 1, 2)
TRIAL_SIZE = 50  # annotated paths with which the learning rate of an arm is chosen
RATES, SPREADS = (1e-3, 3e-3), (0.02, 0.1)
SPLITS = ("val_seen", "val_unseen")


@dataclass(frozen=True)
class Arm:
    """Where an agent's encoder comes from, and whether it is trained with the agent."""

    pretrained: bool
    trained: bool


ARMS = {
    "random, frozen": Arm(False, False),
    "pre-trained, frozen": Arm(True, False),
    "from scratch": Arm(False, True),
    "pre-trained, fine-tuned": Arm(True, True),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/claim"))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    root, steps = options.run_dir, options.steps
    make_world(root / "world")
    pretrain(encoder(root))
    chosen = {}
    for arm in ARMS:
        trials = list(first_trials(arm))
        scores = [success(run(root, trial, steps), "val_seen") for trial in trials]
        chosen[arm] = trials[scores.index(max(scores))]
        print(f"{arm}: chosen on val_seen: {chosen[arm].name}", flush=True)
    rows: dict[tuple[int, str], list[dict[str, float]]] = {}
    for paths in options.sizes:
        for seed in SEEDS:
            for arm, best in chosen.items():
                trial = replace(best, paths=paths, seed=seed)
                rows.setdefault((paths, arm), []).append(run(root, trial, steps))
        print(describe(rows), flush=True)
        write_atomically(root / "claim.md", describe(rows))


def make_world(folder: Path) -> None:
    """Write houses, instructions of one style and their WordPiece vocabulary once."""
    if (folder / "wordpiece.txt").is_file():
        return
    write_toy(folder, WORLD)
    texts = [text for item in read_paths(folder, "train") for text in item["instructions"]]
    words = build_wordpiece_vocabulary(word for text in texts for word in split_words(text))
    for split in ("train", *SPLITS):
        items = read_paths(folder, split)
        for item in items:
            item["instructions"] = [item["instructions"][STYLES.index(STYLE)]]
        write_atomically(folder / "r2r" / f"R2R_{split}.json", json_text(items))
    write_vocabulary(folder / "wordpiece.txt", words)


def places(root: Path) -> dict[str, Any]:
    """The options that name the world."""
    return {
        "world": "matterport",
        "data_dir": root / "world",
        "features": Path("features.npy"),
        "device": "cpu",
    }


def encoder(root: Path) -> PretrainConfig:
    """The run that pre-trains; its action leaves the plateau of directions at about step 2,200."""
    preset = PRETRAIN_PRESETS["toy"][1]
    options = {**places(root), "vocabulary": Path("wordpiece.txt"), "run_dir": root / "pretrain"}
    return replace(preset, held_out=("r2r:val_unseen",), **options)


def first_trials(arm: str) -> Iterator[Trial]:
    """The agents among which learning rate and initial weights are chosen."""
    for lr in RATES:
        for spread in (0.0,) if ARMS[arm].pretrained else SPREADS:
            yield Trial(arm, TRIAL_SIZE, 0, lr, spread)


def run(root: Path, trial: Trial, steps: int) -> dict[str, float]:
    """Train one agent, or read what it reached; its scores after the last step."""
    arm, folder = ARMS[trial.arm], root / "agents" / trial.name
    done = folder / "scores.json"
    if done.is_file():
        return json.loads(done.read_text())
    preset = R2R_PRESETS["toy"][1]
    began = time.process_time()
    train_r2r(
        replace(
            preset,
            **places(root),
            run_dir=folder,
            wordpieces=Path("wordpiece.txt"),
            train=(str(annotated(root, trial.paths, trial.seed)),),
            seed=trial.seed,
            max_steps=steps,
            save_every=steps,
            pretrained=root / "pretrain" / "model" if arm.pretrained else None,
            optimizer=OptimizerConfig("adam", lr=trial.lr),
            model=replace(preset.model, update_language=arm.trained, update_cross=arm.trained),
            bert=replace(preset.bert, initializer_range=trial.spread or 0.02),
        )
    )
    rows = [row for row in read_metrics(folder) if "val_unseen/success_rate" in row]
    scores = {name: value for name, value in rows[-1].items() if name.split("/")[0] in SPLITS}
    scores["cpu_seconds"] = time.process_time() - began
    write_json(done, {**asdict(trial), **scores})
    shown = "  ".join(f"{split} {success(scores, split):.3f}" for split in SPLITS)
    print(f"{trial.name}: {shown}", flush=True)
    return scores


def annotated(root: Path, paths: int, seed: int) -> Path:
    """A file of the training paths that agents of ``seed`` see; larger ones hold smaller ones."""
    file = root / "annotated" / f"{paths}-paths-seed-{seed}.json"
    if not file.is_file():
        items = read_paths(root / "world", "train")
        random.Random(seed).shuffle(items)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json_text(items[:paths]))
    return file


def success(scores: dict[str, float], split: str) -> float:
    return scores[f"{split}/success_rate"]


def describe(rows: dict[tuple[int, str], list[dict[str, float]]]) -> str:
    """Mean success rate [least, greatest] in per cent as a Markdown table."""
    lines = ["| annotated paths | encoder | seen houses | unseen houses |", "|---|---|---|---|"]
    for (paths, arm), scores in rows.items():
        cells = []
        for split in SPLITS:
            values = [100 * success(one, split) for one in scores]
            cells.append(f"{sum(values) / len(values):.1f} [{min(values):.1f}, {max(values):.1f}]")
        lines.append(f"| {paths} | {arm} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
