"""The graph-based agent in the toy world of ``pretraining_claim.py``, with and without its encoder.

    python evidence/pretraining_claim.py --run-dir runs/claim --sizes 50  # world and encoder
    python evidence/graph_agent.py --run-dir runs/claim                   # graph-based agents there

Agents see the same annotated paths as the followers of that script and are scored on the same
houses. A step of theirs costs more than one of a follower: 60 of them take about as long as its
200; ``--steps 200`` gives as many steps instead. Prints a row a run and the table; runs that are
done are not repeated. About a minute a run on one core with 60 steps.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pretraining_claim import SPLITS, annotated, describe, evaluations, places, success

from prevalent.optimizer import OptimizerConfig
from prevalent.runtime.files import json_text, write_atomically
from prevalent.tasks.graph import PRESETS, train_graph

ARMS = {"graph-based, from scratch": False, "graph-based, pre-trained": True}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run-dir", type=Path, default=Path("runs/claim"))
    parser.add_argument("--paths", type=int, default=50, help="annotated paths")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=60, help="of an agent")
    parser.add_argument("--lr", type=float, default=1e-3)
    options = parser.parse_args(argv)
    if not (options.run_dir / "pretrain/model/model.safetensors").is_file():
        parser.error(
            f"--run-dir {options.run_dir} has no pre-trained encoder; run "
            "evidence/pretraining_claim.py with the same --run-dir first"
        )
    torch.set_num_threads(1)
    rows: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for seed in options.seeds:
        for name in ARMS:
            rows.setdefault((options.paths, name), []).append(run(options, name, seed))
    print(describe(rows))


def run(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Train one agent, or read what it reached: scores after the last step, ``curve`` by step."""
    root, pretrained = options.run_dir, ARMS[name]
    kind = "pre-trained" if pretrained else "scratch"
    folder = root / "graph" / f"{kind}-{options.paths}-{options.steps}-steps-{options.lr}-{seed}"
    done = folder / "scores.json"
    if done.is_file():
        return json.loads(done.read_text())
    began = time.process_time()
    train_graph(
        replace(
            PRESETS["toy"][1],
            **places(root),
            run_dir=folder,
            wordpieces=Path("wordpiece.txt"),
            train=(str(annotated(root, options.paths, seed)),),
            held_out=("val_seen@60", "val_unseen"),
            seed=seed,
            max_steps=options.steps,
            eval_every=max(1, options.steps // 3),
            save_every=options.steps,
            pretrained=root / "pretrain/model" if pretrained else None,
            optimizer=OptimizerConfig("adam", lr=options.lr),
        )
    )
    curve = {int(row["step"]): row for row in evaluations(folder)}
    scores: dict[str, Any] = dict(curve[max(curve)])
    scores |= {"cpu_seconds": time.process_time() - began, "curve": curve}
    write_atomically(done, json_text(scores, indent=2) + "\n")
    shown = "  ".join(f"{split} {success(scores, split):.3f}" for split in SPLITS)
    print(f"{folder.name}: {shown}  {scores['cpu_seconds']:.0f} CPU s", flush=True)
    return scores


if __name__ == "__main__":
    main()
