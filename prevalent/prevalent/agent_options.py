"""Options of the commands that train Room-to-Room agents; their presets are in `agent_presets`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from .agent_config import (
    FollowerConfig,
    OptimizerConfig,
    RolloutConfig,
    SpeakerConfig,
    WalkReward,
)
from .config import ModelConfig, Precision, default_data_dir

Teaching = Literal["teacher", "student", "sample", "self-critical"]


@dataclass(frozen=True)
class AgentRun:
    """What the commands that train an agent have in common."""

    shortest_text: ClassVar[int] = 3

    run_dir: Path = Path("runs/r2r")
    """Folder of checkpoints, logs and snapshots; the same command continues there."""
    data_dir: Path = field(default_factory=default_data_dir)
    """Folder with ``r2r/``, ``connectivity/`` and ``vocab/`` (default: $PREVALENT_DATA)."""
    world: Literal["matterport", "toy"] = "matterport"
    """``toy`` makes houses, features and instructions by code in ``RUN_DIR/world``."""
    toy_houses: int = 24
    """Training houses of the toy world."""
    features: Path | None = Path("features/ResNet-152-imagenet.tsv")
    """View features, relative to the data folder; None takes random stand-in features."""
    standin_dim: int = 64
    """Width of the stand-in features where ``features`` is None."""
    angle_layout: Literal["interleaved", "block"] = "interleaved"
    """Order of the angle features; pre-training uses ``block``, the authors' agents do not."""
    words: Path = Path("r2r/train_vocab.txt")
    """Word vocabulary of LSTM encoders and speakers, relative to the data folder."""
    max_length: int = 80
    """Longest instruction in words or word pieces."""
    train: tuple[str, ...] = ("train",)
    """Splits to learn from: names, ``NAME@N`` for a random N paths, or ``./file.json``."""
    held_out: tuple[str, ...] = ("val_seen", "val_unseen")
    """Splits to evaluate; those that are also trained on are cut to 20 batches."""
    start_from: Path | None = None
    """Agent to begin with: a run, one of its snapshots, or a file that the authors' code saved."""
    load_optimizer: bool = False
    """Take the optimizer's state from such a file too."""

    batch_size: int = 64
    """Episodes of one process and one roll-out."""
    max_steps: int = 80_000
    """Optimizer steps."""
    precision: Precision = "fp32"
    """Arithmetic of the forward passes."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    seed: int = 1
    """Seed of weights, dropout and sampled actions; the order of the data has its own."""
    deterministic: bool = False
    """On a GPU, only operations that give the same numbers in every run; slower. On a CPU they
    always do."""
    log_every: int = 100
    """Steps between two records."""
    eval_every: int = 500
    """Steps between two evaluations; the last step is always evaluated."""
    save_every: int = 500
    """Steps between two checkpoints."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_steps", "log_every", "eval_every", "save_every"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be at least 1, got {getattr(self, name)}")
        if self.max_length < self.shortest_text:
            raise ValueError(
                f"--max-length must be at least {self.shortest_text}, got {self.max_length}"
            )
        if not self.train:
            raise ValueError("--train needs at least one split, for example train")


@dataclass(frozen=True)
class SpeakerRun(AgentRun):
    """Train the agent that describes paths."""

    eval_batches: int = 3
    """Batches of each split for loss and accuracy; captions are scored on all paths."""
    speaker: SpeakerConfig = field(default_factory=SpeakerConfig)


@dataclass(frozen=True)
class R2RRun(AgentRun):
    """Train the agent that follows instructions."""

    wordpieces: Path = Path("vocab/bert/bert-base-uncased-vocab.txt")
    """WordPiece vocabulary of transformer encoders, relative to the data folder; a pre-trained
    folder that holds a ``vocab.txt`` has precedence."""
    pretrained: Path | None = None
    """Pre-trained encoder (``RUN/model`` of ``prevalent pretrain``, or a converted checkpoint);
    None starts a transformer encoder of the ``--bert`` sizes from random weights."""
    aug: tuple[str, ...] = ()
    """Augmented paths, as ``--train``: their own texts, or a speaker's where one is given. Paths of
    unseen houses make it pre-exploration."""
    speaker: Path | None = None
    """Speaker for back-translation: a run, a snapshot, or a file of the authors' code."""
    feedback: Teaching = "sample"
    """``teacher``: imitation; ``student``: imitation along sampled walks; ``sample``: imitation of
    one batch and reinforcement on the next (A2C); ``self-critical``: sampled walks against the
    agent's own greedy ones."""
    walk_reward: WalkReward = "spl_sc"
    """self-critical: success (``sr``) or SPL of a walk, less that of the greedy walk (``_sc``),
    credited to all actions or to the last one (``_last``)."""
    imitation_weight: float = 0.2
    """Weight of the imitation loss on true instructions."""
    aug_weight: float = 0.6
    """The same on augmented paths."""
    accumulate: bool = True
    """One step for a true and an augmented batch together; False: they take turns."""
    schedule_ratio: float = -1.0
    """0 to 1: share of steps that only reinforce, the others only imitate with weight 1."""
    eval_batch_size: int = 100
    """Episodes that walk together in an evaluation; no walk depends on it."""
    model: FollowerConfig = field(default_factory=FollowerConfig)
    bert: ModelConfig = field(default_factory=ModelConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("imitation_weight", "aug_weight"):
            if getattr(self, name) < 0:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must not be negative, got {getattr(self, name)}")
        if self.eval_batch_size < 1:
            raise ValueError(f"--eval-batch-size must be at least 1, got {self.eval_batch_size}")
        if self.schedule_ratio > 1:
            raise ValueError(f"--schedule-ratio must be at most 1, got {self.schedule_ratio}")
        if self.schedule_ratio >= 0 and self.feedback != "sample":
            raise ValueError("--schedule-ratio needs --feedback sample, or set it to -1")
        if self.speaker is not None and not self.aug:
            raise ValueError(
                "--speaker describes augmented paths, but --aug names none; give --aug "
                "./aug_paths.json (`prevalent prepare aug-paths`) or drop --speaker"
            )
        if self.pretrained is not None and self.model.encoder == "lstm":
            raise ValueError(
                "--pretrained needs a transformer encoder; add --model.encoder dic or drop it"
            )
