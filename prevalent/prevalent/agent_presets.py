"""Presets of the agents: one per row of the paper's Room-to-Room tables and ablations.

Rows of other papers are trained as those papers describe, within this agent (Tan et al., NAACL
2019; Fried et al., NeurIPS 2018; Anderson et al., CVPR 2018).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .agent_config import FollowerConfig, OptimizerConfig, RolloutConfig, SpeakerConfig
from .agent_options import R2RRun, SpeakerRun
from .config import SMALL_MODEL, TINY_MODEL, TOY_MODEL

RUNS = Path("runs/r2r")
PRETRAINED = Path("runs/pretrain/base/model")
AUG_PATHS = ("./data/r2r/aug_paths.json",)

ENVDROP = R2RRun(
    run_dir=RUNS / "envdrop",
    model=FollowerConfig(summary="max", feature_dropout=0.3),
    eval_every=2000,
    save_every=2000,
)
PREVALENT = R2RRun(
    run_dir=RUNS / "prevalent-listener",
    pretrained=PRETRAINED,
    batch_size=20,
    eval_every=2000,
    save_every=2000,
    model=FollowerConfig(encoder="dic", hidden_size=1024, summary="max", feature_dropout=0.4),
    optimizer=OptimizerConfig(lr=2e-5),
)
STAGE_1 = replace(
    PREVALENT,
    run_dir=RUNS / "prevalent-stage1",
    start_from=RUNS / "prevalent-listener",
    speaker=RUNS / "speaker",
    aug=AUG_PATHS,
    max_steps=100_000,
)
STAGE_2 = replace(
    STAGE_1,
    run_dir=RUNS / "prevalent-stage2",
    start_from=RUNS / "prevalent-stage1",
    batch_size=10,
    max_steps=20_000,
    optimizer=OptimizerConfig(lr=2e-6),
    model=replace(STAGE_1.model, update_cross=True),
)
MULTI = replace(
    PREVALENT,
    run_dir=RUNS / "prevalent-multi",
    batch_size=10,
    max_steps=70_000,
    optimizer=OptimizerConfig("adamax", lr=5e-5, weight_decay=5e-4),
    model=replace(PREVALENT.model, num_texts=3, dropout=0.4, update_cross=True),
    rollout=RolloutConfig(max_actions=8),
)
SMALL_AGENT = FollowerConfig(
    encoder="dic",
    hidden_size=128,
    encoder_size=128,
    action_size=32,
    dropout=0.3,
    encoder_dropout=0.3,
    feature_dropout=0.2,
)
TOY_AGENT = replace(
    SMALL_AGENT,
    hidden_size=64,
    encoder_size=64,
    action_size=16,
    angle_size=32,
    top_lstm=False,
    dropout=0.1,
    encoder_dropout=0.1,
    feature_dropout=0.1,
    update_language=True,
    update_cross=True,
)
TINY_AGENT = FollowerConfig(
    encoder="dic",
    hidden_size=8,
    encoder_size=6,
    action_size=4,
    word_size=6,
    angle_size=4,
    update_cross=True,
)


def _ablation(name: str, pretrained: str) -> R2RRun:
    return replace(
        PREVALENT, run_dir=RUNS / name, pretrained=Path(f"runs/pretrain/{pretrained}/model")
    )


R2R_PRESETS: dict[str, tuple[str, R2RRun]] = {
    "seq2seq": (
        "Table 2, Seq2Seq: student forcing alone (here with panoramic actions)",
        R2RRun(
            run_dir=RUNS / "seq2seq",
            feedback="student",
            imitation_weight=1.0,
            batch_size=100,
            max_steps=20_000,
            optimizer=OptimizerConfig("adam", weight_decay=5e-4),
            rollout=RolloutConfig(max_actions=20),
        ),
    ),
    "speaker-follower": (
        "Table 2, Speaker-Follower: student forcing on true and speaker-made instructions",
        R2RRun(
            run_dir=RUNS / "speaker-follower",
            feedback="student",
            imitation_weight=1.0,
            aug_weight=1.0,
            aug=AUG_PATHS,
            accumulate=False,
            batch_size=100,
            max_steps=50_000,
            optimizer=OptimizerConfig("adam", weight_decay=5e-4),
            rollout=RolloutConfig(max_actions=20),
        ),
    ),
    "envdrop": ("EnvDrop's agent before back-translation", ENVDROP),
    "envdrop-back-translation": (
        "Table 2, EnvDrop: continues envdrop on the speaker's words through dropped features",
        replace(
            ENVDROP,
            run_dir=RUNS / "envdrop-back-translation",
            start_from=RUNS / "envdrop",
            speaker=RUNS / "speaker",
            aug=AUG_PATHS,
            max_steps=200_000,
            model=replace(ENVDROP.model, feature_dropout=0.4),
        ),
    ),
    "envdrop-pre-exploration": (
        "EnvDrop after seeing the unseen houses: give paths sampled there as --aug",
        replace(
            ENVDROP,
            run_dir=RUNS / "envdrop-pre-exploration",
            start_from=RUNS / "envdrop-back-translation",
            speaker=RUNS / "speaker",
            aug=("./data/r2r/unseen_paths.json",),
            max_steps=20_000,
            model=replace(ENVDROP.model, feature_dropout=0.4),
        ),
    ),
    "prevalent-listener": (
        "PREVALENT before back-translation; where stage 1 begins (steps and rate are ours)",
        replace(PREVALENT, max_steps=40_000),
    ),
    "prevalent-stage1": ("Table 2, PREVALENT, feature-based: the encoder is frozen", STAGE_1),
    "prevalent-stage2": ("Table 2, PREVALENT: then fine-tuned with batch 10, rate 2e-6", STAGE_2),
    "prevalent-multi": (
        "Table 2 (M), PREVALENT: three instructions of a path read side by side",
        MULTI,
    ),
    "prevalent-multi-critical": (
        "Table 2 (M): then self-critical with the SPL of whole walks, rate 2e-5",
        replace(
            MULTI,
            run_dir=RUNS / "prevalent-multi-critical",
            start_from=RUNS / "prevalent-multi",
            feedback="self-critical",
            max_steps=65_000,
            optimizer=OptimizerConfig("adamax", lr=2e-5, weight_decay=5e-4),
        ),
    ),
    "prevalent-feature-based": (
        "ablation: the steps of stage 2 with the encoder still frozen",
        replace(STAGE_2, run_dir=RUNS / "prevalent-feature-based", model=STAGE_1.model),
    ),
    "prevalent-without-pretraining": (
        "ablation: the same agent, its encoder from random weights and trained throughout",
        replace(
            PREVALENT,
            run_dir=RUNS / "prevalent-without-pretraining",
            pretrained=None,
            model=replace(PREVALENT.model, update_language=True, update_cross=True),
        ),
    ),
    "prevalent-mlm-only": (
        "ablation: encoder pre-trained without action prediction",
        _ablation("prevalent-mlm-only", "mlm-only"),
    ),
    "prevalent-text-only": (
        "ablation: encoder pre-trained without images",
        _ablation("prevalent-text-only", "text-only"),
    ),
    "r2r-agent-small": (
        "small agent on R2R with random stand-in features, 10 minutes on one CPU core",
        R2RRun(
            run_dir=RUNS / "agent-small",
            features=None,
            pretrained=Path("runs/pretrain/r2r-small/model"),
            angle_layout="block",
            held_out=("val_seen@60", "val_unseen@60"),
            batch_size=16,
            max_steps=360,
            imitation_weight=1.0,
            log_every=20,
            eval_every=120,
            save_every=120,
            optimizer=OptimizerConfig("adam", lr=5e-4),
            rollout=RolloutConfig(max_actions=10, reuse_text=True),
            model=SMALL_AGENT,
            bert=SMALL_MODEL,
        ),
    ),
    "demo": (
        "toy houses made by code, half a minute on a CPU",
        R2RRun(
            run_dir=RUNS / "demo",
            world="toy",
            angle_layout="block",
            batch_size=16,
            max_steps=50,
            imitation_weight=1.0,
            log_every=10,
            eval_every=50,
            save_every=50,
            optimizer=OptimizerConfig("adam", lr=1e-3),
            rollout=RolloutConfig(max_actions=8, reuse_text=True),
            model=TOY_AGENT,
            bert=replace(TOY_MODEL, num_language_layers=1, num_cross_layers=1),
        ),
    ),
    "smoke": (
        "toy houses, a few steps: does everything run",
        R2RRun(
            run_dir=RUNS / "smoke",
            world="toy",
            toy_houses=1,
            held_out=("val_seen@2", "val_unseen@2"),
            batch_size=3,
            max_steps=4,
            log_every=2,
            eval_every=4,
            save_every=2,
            rollout=RolloutConfig(max_actions=3),
            model=TINY_AGENT,
            bert=TINY_MODEL,
        ),
    ),
}

SPEAKER_PRESETS: dict[str, tuple[str, SpeakerRun]] = {
    "envdrop": (
        "the speaker of EnvDrop and PREVALENT",
        SpeakerRun(
            run_dir=RUNS / "speaker",
            optimizer=OptimizerConfig("adam", lr=1e-4),
            eval_every=2000,
            save_every=2000,
        ),
    ),
    "r2r-speaker-small": (
        "small speaker on R2R with random stand-in features, a few minutes on a CPU",
        SpeakerRun(
            run_dir=RUNS / "speaker-small",
            features=None,
            angle_layout="block",
            held_out=("val_seen@60", "val_unseen@60"),
            batch_size=32,
            max_steps=1000,
            eval_every=250,
            save_every=250,
            optimizer=OptimizerConfig("adam", lr=1e-3),
            speaker=SpeakerConfig(hidden_size=128, word_size=64, dropout=0.3),
        ),
    ),
    "demo": (
        "toy houses made by code, a minute on a CPU",
        SpeakerRun(
            run_dir=RUNS / "speaker-demo",
            world="toy",
            angle_layout="block",
            batch_size=32,
            max_steps=200,
            eval_every=100,
            save_every=100,
            optimizer=OptimizerConfig("adam", lr=3e-3),
            speaker=SpeakerConfig(
                hidden_size=64, word_size=32, dropout=0.1, feature_dropout=0.1, angle_size=32
            ),
        ),
    ),
    "smoke": (
        "toy houses, a few steps: does everything run",
        SpeakerRun(
            run_dir=RUNS / "speaker-smoke",
            world="toy",
            toy_houses=1,
            held_out=("val_seen@2", "val_unseen@2"),
            batch_size=3,
            max_steps=4,
            log_every=2,
            eval_every=4,
            save_every=2,
            eval_batches=1,
            optimizer=OptimizerConfig("adam"),
            speaker=SpeakerConfig(hidden_size=8, word_size=6, angle_size=4, max_decode=6),
        ),
    ),
}
