"""Presets of ``prevalent train-hanna``: one per row of the paper's table of HANNA, its ablations.

The paper trains with batches of 32, otherwise as the base agent (Nguyen & Daumé III, EMNLP 2019).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .agent_config import OptimizerConfig
from .assistance_config import AssistanceConfig, SearchConfig
from .assistance_options import HannaRun
from .config import TINY_MODEL, TOY_MODEL

RUNS = Path("runs/hanna")
EVERY = 300  # steps between evaluations

ANNA = HannaRun(run_dir=RUNS / "anna", log_every=100, eval_every=EVERY, save_every=EVERY)
PREVALENT = replace(
    ANNA,
    run_dir=RUNS / "prevalent",
    pretrained=Path("runs/pretrain/base/model"),
    model=AssistanceConfig(encoder="dic"),
)
TOY = HannaRun(
    run_dir=RUNS / "toy",
    world="toy",
    held_out=("val_unseen",),
    batch_size=64,
    max_steps=300,
    log_every=20,
    eval_every=100,
    save_every=100,
    optimizer=OptimizerConfig("adam", lr=1e-3),
    model=AssistanceConfig(
        hidden_size=64, num_heads=4, dropout=0.1, ask_size=16, angle_size=32, reset="own"
    ),
    bert=replace(TOY_MODEL, num_language_layers=1, num_cross_layers=1),
    search=SearchConfig(train_length=12, eval_length=20),
)
TINY_AGENT = AssistanceConfig(
    encoder="dic", hidden_size=8, num_heads=2, dropout=0.1, ask_size=4, angle_size=4
)


def _searching(name: str, **changes) -> HannaRun:
    return replace(ANNA, run_dir=RUNS / name, search=replace(ANNA.search, **changes))


def _built(name: str, **changes) -> HannaRun:
    return replace(ANNA, run_dir=RUNS / name, model=replace(ANNA.model, **changes))


HANNA_PRESETS: dict[str, tuple[str, HannaRun]] = {
    "anna": ("Table 4, ANNA: the base agent, trained words", ANNA),
    "prevalent": ("Table 4, PREVALENT: its text layers, frozen, in both networks", PREVALENT),
    "no-assistance": (
        "Table 4, no assistance: never asks",
        _searching("no-assistance", ask="never"),
    ),
    "perfect-interpretation": (
        "Table 4, perfect assistance interpretation: follows routes without an error",
        _searching("perfect-interpretation", perfect_interpretation=True),
    ),
    "prevalent-mlm-only": (
        "ablation: encoder pre-trained without action prediction",
        replace(
            PREVALENT,
            run_dir=RUNS / "prevalent-mlm-only",
            pretrained=Path("runs/pretrain/mlm-only/model"),
        ),
    ),
    "ask-every-5": ("HANNA: asks every five steps", _searching("ask-every-5", ask="every")),
    "random-ask": ("HANNA: asks at a fifth of the steps", _searching("random-ask", ask="random")),
    "vision-only": (
        "HANNA: sees where a route ends but not its words",
        _searching("vision-only", vision_only=True),
    ),
    "no-reason": ("HANNA: decides to ask without reasons", _built("no-reason", reasons=False)),
    "no-sim-attend": (
        "HANNA: without the memory of similar situations",
        _built("no-sim-attend", similar_situations=False),
    ),
    "no-reset-inter": ("HANNA: never forgets a subtask", _built("no-reset-inter", reset="never")),
    "no-curious": (
        "HANNA: imitation without curiosity",
        _searching("no-curious", curiosity=0.0),
    ),
    "hanna-toy": ("toy houses made by code, a few minutes on a CPU", TOY),
    "hanna-smoke": (
        "toy houses, a few steps: does everything run",
        replace(
            TOY,
            run_dir=RUNS / "smoke",
            toy_houses=1,
            held_out=("val_seen_env_unseen_anna", "val_unseen"),
            batch_size=3,
            max_steps=4,
            log_every=2,
            eval_every=4,
            save_every=2,
            model=TINY_AGENT,
            bert=TINY_MODEL,
            search=SearchConfig(train_length=4, eval_length=4),
        ),
    ),
}
