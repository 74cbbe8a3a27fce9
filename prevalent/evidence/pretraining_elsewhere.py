"""Does pre-training on instructions help where something else is asked for? Several seeds.

    python evidence/pretraining_elsewhere.py --run-dir runs/claim --task ndh
    python evidence/pretraining_elsewhere.py --run-dir runs/claim --task hanna
    python evidence/pretraining_elsewhere.py --run-dir runs/words --task words --data-dir data \\
        --bert FOLDER

``ndh`` and ``hanna`` take the encoder that ``pretraining_claim.py`` has pre-trained in RUN_DIR, to
which dialogs and searches are new, and train agents of both tasks in the same toy houses, with few
of their own tasks. ``words`` walks the real paths of R2R with stand-in features, so that only what
is known of words can help: an encoder whose word embeddings and text layers come from a folder of
BERT weights, beside the same one from random weights.

Prints a row a run, then the table; runs that are done are not repeated.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pretraining_claim import PLAIN, make_world, places

from prevalent.config import READING_MODEL, ModelConfig
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.optimizer import OptimizerConfig
from prevalent.released.checkpoints import initialize_from, save_model
from prevalent.runtime.files import json_text, write_atomically, write_json
from prevalent.runtime.logs import read_metrics
from prevalent.tasks.hanna import HANNA_PRESETS, train_hanna
from prevalent.tasks.ndh import NDH_PRESETS, train_ndh
from prevalent.tasks.r2r import R2R_PRESETS, train_r2r

ARMS = {  # row -> is the encoder pre-trained, is it trained with the agent
    "random, frozen": (False, False),
    "pre-trained, frozen": (True, False),
    "from scratch": (False, True),
    "pre-trained, fine-tuned": (True, True),
}
RATE, FINE_TUNING = 1e-3, 0.3
"""Learning rate, and its share for agents whose pre-trained encoder is trained on: those that were
chosen for R2R in toy houses; nothing was chosen on the tasks here."""
SMALL_WEIGHTS = replace(READING_MODEL, initializer_range=0.02)
"""Random encoders, likewise."""


@dataclass(frozen=True)
class Task:
    """How agents of one task are trained, and what is reported of them."""

    train: Callable[[argparse.Namespace, dict[str, Any], str, int], Any]
    columns: dict[str, tuple[str, float]]  # unit in brackets -> name of the metric, its factor
    splits: tuple[str, str]  # seen and unseen houses
    size: int  # annotated tasks
    steps: int


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run-dir", type=Path, default=Path("runs/claim"))
    parser.add_argument("--task", choices=tuple(TASKS), required=True)
    parser.add_argument("--size", type=int, help="annotated tasks; default: the task's own")
    parser.add_argument("--steps", type=int, help="of an agent; default: the task's own")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=tuple(ARMS))
    parser.add_argument("--houses", type=int, default=PLAIN.train_houses, help="to train in")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="words: R2R's data")
    parser.add_argument("--bert", type=Path, help="words: folder of BERT weights with a vocabulary")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    task = TASKS[options.task]
    options.size, options.steps = options.size or task.size, options.steps or task.steps
    options.world = options.data_dir
    if options.task != "words":
        options.world = options.run_dir / "tasks" / "world"
        unseen = max(1, PLAIN.unseen_houses * options.houses // PLAIN.train_houses)
        size = replace(PLAIN, train_houses=options.houses, unseen_houses=unseen, dialogs=20)
        make_world(options.world, size)
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in options.seeds:
        for arm in options.arms:
            rows.setdefault(arm, []).append(run(options, task, arm, seed))
    table = describe(rows, task)
    print(table, flush=True)
    write_atomically(options.run_dir / f"{options.task}.md", table)


def run(options: argparse.Namespace, task: Task, arm: str, seed: int) -> dict[str, Any]:
    """Train one agent, or read what it reached: the scores after its last step."""
    name = f"{options.task} {arm} {options.size} seed {seed}".replace(",", "").replace(" ", "-")
    folder = options.run_dir / "tasks" / name
    done = folder / "scores.json"
    if not done.is_file():
        began = time.process_time()
        every = {"run_dir": folder, "seed": seed, "device": "cpu", "max_steps": options.steps}
        every |= {"eval_every": options.steps, "save_every": options.steps}
        task.train(options, every, arm, seed)
        scores = read_metrics(folder)[-1] | {"cpu_seconds": time.process_time() - began}
        write_json(done, scores)
    scores = json.loads(done.read_text())
    print(f"{name}: {', '.join(cells([scores], task))}", flush=True)
    return scores


def cells(scores: list[dict[str, Any]], task: Task) -> list[str]:
    """Mean of the seeds [least, greatest] by column and split."""
    texts = []
    for metric, factor in task.columns.values():
        for split in task.splits:
            values = [factor * one[f"{split.partition('@')[0]}/{metric}"] for one in scores]
            mean = sum(values) / len(values)
            texts.append(f"{mean:.2f} [{min(values):.2f}, {max(values):.2f}]")
    return texts


def describe(rows: dict[str, list[dict[str, Any]]], task: Task) -> str:
    """The table in Markdown."""
    head = [f"{name}, {houses}" for name in task.columns for houses in ("seen", "unseen houses")]
    lines = [f"| encoder | {' | '.join(head)} |", "|---" * (1 + len(head)) + "|"]
    lines += [f"| {arm} | {' | '.join(cells(scores, task))} |" for arm, scores in rows.items()]
    return "\n".join([*lines, ""])


# --- the three tasks


def train_dialogs(options: argparse.Namespace, every: dict[str, Any], arm: str, seed: int) -> None:
    """An agent that follows the oracle's last answer; it sees all 36 views, as pre-training did."""
    preset, trained = NDH_PRESETS["demo"][1], ARMS[arm][1]
    few = annotated(options, options.world / "ndh" / "train.json", seed)
    held_out = TASKS["ndh"].splits
    every |= places(options.world) | start(options, arm) | {"bert": SMALL_WEIGHTS}
    model = replace(preset.model, view_stride=1, update_language=trained, update_cross=trained)
    wordpieces = Path("wordpiece.txt")
    train_ndh(
        replace(
            preset, **every, train=(few,), held_out=held_out, wordpieces=wordpieces, model=model
        )
    )


def train_searches(options: argparse.Namespace, every: dict[str, Any], arm: str, seed: int) -> None:
    """An agent that looks for objects; as in the paper it has the text layers of the encoder."""
    preset = HANNA_PRESETS["hanna-toy"][1]
    folder = options.run_dir / "tasks" / f"searches-{options.size}-seed-{seed}"
    if not (folder / "connectivity").exists():
        shutil.copytree(options.world / "hanna", folder / "hanna", dirs_exist_ok=True)
        for name, drawn in (("hanna_train.json", seed), ("hanna_val_seen.json", 0)):
            few = annotated(options, options.world / "hanna" / name, drawn)
            shutil.copy(few, folder / "hanna" / name)
        (folder / "connectivity").symlink_to((options.world / "connectivity").resolve())
    every |= places(folder) | start(options, arm) | {"bert": SMALL_WEIGHTS}
    every |= {"features": (options.world / "features.npy").resolve()}
    model = replace(preset.model, encoder="dic", update_language=ARMS[arm][1])
    wordpieces = (options.world / "wordpiece.txt").resolve()
    held_out = TASKS["hanna"].splits
    train_hanna(replace(preset, **every, held_out=held_out, wordpieces=wordpieces, model=model))


def train_walks(options: argparse.Namespace, every: dict[str, Any], arm: str, seed: int) -> None:
    """An agent on real paths that reads words alone and sees random numbers."""
    preset, trained = R2R_PRESETS["r2r-agent-small"][1], ARMS[arm][1]
    start_of_words = options.run_dir / "pretrain" / "model"
    sizes = ModelConfig(
        hidden_size=384, intermediate_size=1536, num_language_layers=6, num_cross_layers=1
    )
    if not start_of_words.is_dir():
        words = PrevalentForPretraining(sizes)
        initialize_from(words, options.bert)
        save_model(start_of_words, words)
    few = annotated(options, options.world / "r2r" / "R2R_train.json", seed)
    every |= {"data_dir": options.world} | start(options, arm) | {"bert": sizes}
    model = replace(preset.model, include_vision=False, update_language=trained)
    train_r2r(replace(preset, **every, train=(few,), held_out=TASKS["words"].splits, model=model))


def annotated(options: argparse.Namespace, file: Path, seed: int) -> str:
    """A file with those tasks of ``file`` that agents of ``seed`` see."""
    few = options.run_dir / "tasks" / "annotated" / f"{file.stem}-{options.size}-seed-{seed}.json"
    if not few.is_file():
        items = json.loads(file.read_text())
        random.Random(seed).shuffle(items)
        few.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(few, json_text(items[: options.size]))
    return str(few.resolve())


def start(options: argparse.Namespace, arm: str) -> dict[str, Any]:
    """The options of an agent's encoder and learning rate."""
    pretrained, trained = ARMS[arm]
    rate = RATE * (FINE_TUNING if pretrained and trained else 1)
    return {
        "pretrained": options.run_dir / "pretrain" / "model" if pretrained else None,
        "optimizer": OptimizerConfig("adam", lr=rate),
    }


TASKS = {
    "ndh": Task(
        train_dialogs,
        {"goal progress, m": ("dist_to_end_reduction", 1.0), "success, %": ("success_rate", 100.0)},
        ("val_seen@100", "val_unseen"),
        size=100,
        steps=200,
    ),
    "hanna": Task(
        train_searches,
        {"success, %": ("success_rate", 100.0), "SPL, %": ("spl", 100.0)},
        ("val_seen", "val_unseen"),
        size=200,
        steps=100,
    ),
    "words": Task(
        train_walks,
        {"success, %": ("success_rate", 100.0), "SPL, %": ("spl", 100.0)},
        ("val_seen@100", "val_unseen@200"),
        size=300,
        steps=200,
    ),
}


if __name__ == "__main__":
    main()
