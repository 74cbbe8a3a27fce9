"""Presets of ``prevalent train-ndh``: one per row of the paper's table of CVDN and its ablation.

The paper trains with batches of 15 dialogs of at most 300 word pieces; learning rate, decay and the
share of drawn steps are those of the authors' instructions and code.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from .agent_config import OptimizerConfig
from .config import TINY_MODEL, TOY_MODEL
from .dialog_options import DialogConfig, DialogWalk, NDHRun

RUNS = Path("runs/ndh")
ADAMAX = OptimizerConfig("adamax", lr=5e-4, weight_decay=5e-4, max_norm=math.inf)

ORACLE = NDHRun(
    run_dir=RUNS / "prevalent-oracle",
    pretrained=Path("runs/pretrain/base/model"),
    path_type="planner_path",
    batch_size=15,
    optimizer=ADAMAX,
)
NAVIGATOR = replace(ORACLE, run_dir=RUNS / "prevalent-navigator", path_type="player_path")
MIXED = replace(ORACLE, run_dir=RUNS / "prevalent-mixed", path_type="trusted_path")
ANSWER = replace(ORACLE, run_dir=RUNS / "prevalent-oracle-answer", history="oracle_ans")
SEQ2SEQ = NDHRun(
    run_dir=RUNS / "seq2seq-oracle",
    path_type="planner_path",
    feedback="sample",
    batch_size=100,
    optimizer=OptimizerConfig("adam", lr=1e-4, weight_decay=5e-4, max_norm=math.inf),
    model=DialogConfig(
        encoder="lstm",
        actions="low-level",
        hidden_size=512,
        bidirectional=False,
        dropout=0.5,
    ),
)
SMALL_AGENT = DialogConfig(
    hidden_size=128,
    attention_size=64,
    top_lstm=False,
    dropout=0.3,
    encoder_dropout=0.3,
    update_language=True,
    update_cross=True,
)
TOY_AGENT = DialogConfig(
    hidden_size=64,
    encoder_size=64,
    attention_size=64,
    top_lstm=False,
    dropout=0.1,
    encoder_dropout=0.1,
    angle_size=32,
    update_language=True,
    update_cross=True,
)
TINY_AGENT = DialogConfig(
    hidden_size=8, encoder_size=6, word_size=6, attention_size=8, angle_size=4, update_cross=True
)

NDH_PRESETS: dict[str, tuple[str, NDHRun]] = {
    "prevalent-oracle": ("Table 3, PREVALENT, Oracle: learns the oracle's plans", ORACLE),
    "prevalent-navigator": ("Table 3, PREVALENT, Navigator: learns the human's ways", NAVIGATOR),
    "prevalent-mixed": (
        "Table 3, PREVALENT, Mixed: the human's way where it can be trusted",
        MIXED,
    ),
    "seq2seq-oracle": ("Table 3, Seq2Seq, Oracle", SEQ2SEQ),
    "seq2seq-navigator": (
        "Table 3, Seq2Seq, Navigator",
        replace(SEQ2SEQ, run_dir=RUNS / "seq2seq-navigator", path_type="player_path"),
    ),
    "seq2seq-mixed": (
        "Table 3, Seq2Seq, Mixed",
        replace(SEQ2SEQ, run_dir=RUNS / "seq2seq-mixed", path_type="trusted_path"),
    ),
    "prevalent-oracle-answer": ("ablation: reads the last answer alone, Oracle", ANSWER),
    "prevalent-mlm-only": (
        "ablation: the same with an encoder pre-trained without action prediction",
        replace(
            ANSWER,
            run_dir=RUNS / "prevalent-mlm-only",
            pretrained=Path("runs/pretrain/mlm-only/model"),
        ),
    ),
    "prevalent-without-pretraining": (
        "ablation: PREVALENT, Mixed, its encoder from random weights and trained throughout",
        replace(
            MIXED,
            run_dir=RUNS / "prevalent-without-pretraining",
            pretrained=None,
            model=DialogConfig(update_language=True, update_cross=True),
        ),
    ),
    "ndh-small": (
        "small agent with random stand-in features, trained on val seen; a few minutes on a CPU",
        NDHRun(
            run_dir=RUNS / "small",
            features=None,
            standin_dim=4,
            train=("val_seen",),
            held_out=("val_unseen",),
            max_length=80,
            batch_size=16,
            max_steps=1200,
            log_every=40,
            eval_every=400,
            save_every=200,
            optimizer=OptimizerConfig("adam", lr=1e-3),
            walk=DialogWalk(max_actions=10, reuse_text=True),
            model=SMALL_AGENT,
            bert=replace(TOY_MODEL, num_language_layers=1, num_cross_layers=1),
        ),
    ),
    "demo": (
        "toy houses made by code, a minute on a CPU",
        NDHRun(
            run_dir=RUNS / "demo",
            world="toy",
            path_type="planner_path",
            history="oracle_ans",
            batch_size=16,
            max_steps=100,
            log_every=10,
            eval_every=100,
            save_every=50,
            optimizer=OptimizerConfig("adam", lr=1e-3),
            walk=DialogWalk(max_actions=8, reuse_text=True),
            model=TOY_AGENT,
            bert=replace(TOY_MODEL, num_language_layers=1, num_cross_layers=1),
        ),
    ),
    "ndh-smoke": (
        "toy houses, a few steps: does everything run",
        NDHRun(
            run_dir=RUNS / "smoke",
            world="toy",
            toy_houses=1,
            held_out=("val_seen@3", "val_unseen@3"),
            batch_size=3,
            max_steps=4,
            log_every=2,
            eval_every=4,
            save_every=2,
            optimizer=OptimizerConfig("adam"),
            walk=DialogWalk(max_actions=4),
            model=TINY_AGENT,
            bert=replace(TINY_MODEL, max_positions=300),
        ),
    ),
}
