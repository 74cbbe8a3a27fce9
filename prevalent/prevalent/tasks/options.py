"""Options that several commands of training have, each told once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from ..config import ModelConfig, default_data_dir, options_in
from ..data.datasets import WalkData
from ..data.instructions import refuse_repeated
from ..optimizer import OptimizerConfig
from ..runtime.logs import ReportTo
from ..runtime.options import ADDED, at_least
from ..runtime.precision import Precision


@dataclass(frozen=True)
class TrainingRun:
    """What all commands that train have in common."""

    run_dir: Path = Path("runs")
    """Folder of checkpoints, logs and what is exported; the same command continues there."""
    data_dir: Path = field(default_factory=default_data_dir)
    """Folder with ``r2r/``, ``connectivity/`` and ``vocab/`` (default: $PREVALENT_DATA)."""
    world: Literal["matterport", "toy"] = "matterport"
    """``toy`` makes houses, features and instructions by code in ``RUN_DIR/world``."""
    toy_houses: int = 24
    """Training houses of the toy world."""
    features: Path | None = Path("features/ResNet-152-imagenet.tsv")
    """View features, relative to the data folder; None takes random stand-in features."""
    feature_columns: str = ""
    """``FIRST:END`` takes these columns of the features alone, such as 0:768; all where empty."""
    standin_dim: int = 64
    """Width of the stand-in features where ``features`` is None."""
    max_length: int = 80
    """Longest instruction in words or word pieces."""
    train: tuple[str, ...] = ("train",)
    """Splits to learn from: names, ``NAME@N`` for a random N paths, or ``./file.json``."""
    held_out: tuple[str, ...] = ("val_seen", "val_unseen")
    """Splits to evaluate; those that are also trained on are cut to 20 batches."""

    batch_size: int = 64
    """Episodes of one roll-out, over all processes together."""
    max_steps: int = 80_000
    """Optimizer steps."""
    precision: Precision = "auto"
    """Arithmetic of the forward passes. ``auto``: bf16 on a GPU that has it, else fp32; a
    continued run keeps what it began with."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    seed: int = 1
    """Seed of weights, dropout and sampled actions; the order of the data has its own."""
    deterministic: bool = False
    """On a GPU, only operations that give the same numbers in every run; slower. On a CPU they
    always do."""
    compile: bool = field(default=False, metadata=ADDED)
    """Not offered for agents, whose shapes change at every step; `prevalent pretrain` has it."""
    log_every: int = 100
    """Steps between two records."""
    eval_every: int = 500
    """Steps between two evaluations; the last step is always evaluated."""
    save_every: int = 500
    """Steps between two checkpoints."""
    keep: int = 2
    """Newest checkpoints that stay."""
    patience: int = 0
    """End after so many evaluations without a better one in unseen houses; 0: never."""
    report_to: ReportTo = field(default="none", metadata=ADDED)
    """Send the rows of metrics.jsonl to Weights & Biases too (an extra); wandb-offline keeps them
    in RUN/wandb for `wandb sync`."""

    def __post_init__(self) -> None:
        at_least(self, batch_size=1, log_every=1, eval_every=1, save_every=1)
        at_least(self, keep=1, patience=0, toy_houses=1, standin_dim=1)
        refuse_repeated(train=self.train)

    def unused(self) -> dict[str, str]:
        """Options of this task that the run would record and not use; see `unused_options`."""
        if self.held_out:
            return {}
        reason = "nothing is evaluated; give --held-out, or drop it"
        names = ("patience", "eval_every", "eval_batches", "eval_batch_size")
        return options_in("", names, reason)


@dataclass(frozen=True)
class AgentRun(TrainingRun):
    """What the commands that train an agent have in common."""

    shortest_text: ClassVar[int] = 3

    run_dir: Path = Path("runs/r2r")
    """Folder of checkpoints, logs and snapshots; the same command continues there."""
    angle_layout: Literal["interleaved", "block"] = "interleaved"
    """Order of the angle features; pre-training uses ``block``, the authors' agents do not."""
    words: Path = Path("r2r/train_vocab.txt")
    """Word vocabulary of LSTM encoders and speakers, relative to the data folder."""
    start_from: Path | None = None
    """Agent to begin with: a run, one of its snapshots, or a file that the authors' code saved."""
    load_optimizer: bool = False
    """Take the optimizer's state from such a file too."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, max_steps=1, max_length=self.shortest_text)
        if not self.train:
            raise ValueError("--train needs at least one split, for example train")


@dataclass(frozen=True)
class ReaderRun(AgentRun):
    """And those whose agents can read with a transformer."""

    wordpieces: Path = Path("vocab/bert/bert-base-uncased-vocab.txt")
    """WordPiece vocabulary of transformer encoders, relative to the data folder; a pre-trained
    folder that holds a ``vocab.txt`` has precedence."""
    pretrained: Path | None = None
    """Pre-trained encoder (``RUN/model`` of ``prevalent pretrain``, or a converted checkpoint);
    None starts a transformer encoder of the ``--bert.*`` sizes from random weights."""
    bert: ModelConfig = field(default_factory=ModelConfig)


@dataclass(frozen=True)
class WalkRun(ReaderRun):
    """And those that learn from Room-to-Room or a data set of its form."""

    data: WalkData = "r2r"
    """Data set whose splits ``--train`` and ``--held-out`` name; ``rxr`` is all three languages."""
    eval_batch_size: int = 100
    """Episodes that walk together in an evaluation; no walk depends on it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, eval_batch_size=1)
