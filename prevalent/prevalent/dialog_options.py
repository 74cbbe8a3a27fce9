"""Options of ``prevalent train-ndh``; the presets are in `dialog_presets`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from .agent_config import OptimizerConfig, check_angle_size, check_dropouts
from .agent_options import AgentRun
from .config import ModelConfig
from .data.dialogs import Tags
from .data.tokenizers import DIALOG_LENGTHS, History
from .metrics.dialog import PathType

PLAN_ACTIONS, WALK_ACTIONS, LOW_LEVEL_WALK_ACTIONS = 20, 40, 80
"""Most actions of an episode along the oracle's plan, along longer paths, and along these where
turning takes steps too."""
LOW_LEVEL_LENGTHS = {**DIALOG_LENGTHS, "nav_q_oracle_ans": 120, "all": 720}
"""Longest texts of the Seq2Seq baseline; `DIALOG_LENGTHS` has those of PREVALENT."""

DialogFeedback = Literal["mixed", "teacher", "argmax", "sample"]


@dataclass(frozen=True)
class DialogConfig:
    """The vision-language agent of NDH, or with ``actions=low-level`` the Seq2Seq baseline."""

    encoder: Literal["dic", "lstm"] = "dic"
    """``dic``: the pre-trained encoder, at every step; ``lstm``: words, once an episode."""
    actions: Literal["panoramic", "low-level"] = "panoramic"
    """``panoramic``: neighbors by turning angle; ``low-level``: six actions, one view at a time."""
    hidden_size: int = 1024
    """H, width of the decoder."""
    encoder_size: int = 1024
    """``dic``: width of its LSTM in one direction."""
    word_size: int = 256
    """``lstm``: width of word embeddings."""
    action_size: int = 32
    """``low-level``: width of embedded actions."""
    attention_size: int = 256
    """``panoramic``: width of the visual attention and of the action scores."""
    bidirectional: bool = True
    """Read the text in both directions."""
    reverse_input: bool = True
    """``dic``: reverse the words before the LSTM."""
    top_lstm: bool = True
    """``dic``: an LSTM above the transformer."""
    recur_on_text: bool = True
    """``panoramic``: the text-attended state is the recurrent one."""
    view_stride: int = 2
    """``panoramic``: see every n-th of the 36 views; the authors see 18."""
    dropout: float = 0.4
    """Dropout of the decoder and of LSTM encoders."""
    encoder_dropout: float = 0.4
    """``dic``: dropout of the text context."""
    angle_size: int = 128
    """A, width of angle features."""
    include_vision: bool = True
    """False: ``dic`` reads the text alone, once an episode."""
    update_language: bool = False
    """Train the text layers of the transformer."""
    update_cross: bool = False
    """Train its image fusion."""

    def __post_init__(self) -> None:
        for name in ("hidden_size", "encoder_size", "word_size", "action_size", "attention_size"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--model.{option} must be at least 1, got {getattr(self, name)}")
        if not 1 <= self.view_stride <= 36:
            raise ValueError(f"--model.view-stride must be 1 to 36, got {self.view_stride}")
        if self.actions == "low-level" and self.encoder != "lstm":
            raise ValueError(
                "--model.actions low-level goes with --model.encoder lstm; the pre-trained encoder "
                "needs whole panoramas"
            )
        if self.encoder == "lstm" and self.bidirectional and self.hidden_size % 2:
            raise ValueError(
                f"--model.hidden-size {self.hidden_size} must be even for an encoder that reads "
                "in both directions"
            )
        check_dropouts(self.dropout, self.encoder_dropout)
        check_angle_size(self.angle_size)


@dataclass(frozen=True)
class DialogWalk:
    """How an episode is walked."""

    max_actions: int = 0
    """Most actions of an episode; 0: 20 along the oracle's plan, 40 along longer paths (80 with
    low-level actions)."""
    move_after_stop: bool = False
    """True: an agent that has stopped walks on where it draws a move, as in the authors' code."""
    reuse_text: bool = False
    """Train mode: run the text layers once an episode (one dropout mask for all its steps). In eval
    mode they always run once, which changes no number."""

    def __post_init__(self) -> None:
        if self.max_actions < 0:
            raise ValueError(f"--walk.max-actions must not be negative, got {self.max_actions}")


@dataclass(frozen=True)
class NDHRun(AgentRun):
    """Train the agent that follows a dialog."""

    shortest_text: ClassVar[int] = 0

    run_dir: Path = Path("runs/ndh")
    """Folder of checkpoints, logs and snapshots; the same command continues there."""
    angle_layout: Literal["interleaved", "block"] = "block"
    """Order of the angle features; pre-training and NDH use ``block``."""
    path_type: PathType = "trusted_path"
    """Whose path is right: ``planner_path`` (Oracle), ``player_path`` (Navigator) or
    ``trusted_path`` (Mixed: the navigator's where it reaches the end of the plan)."""
    history: History = "all"
    """What is read: ``none``, the ``target``, the last answer (``oracle_ans``) with its question
    (``nav_q_oracle_ans``), or ``all`` that was said; the last three with the target."""
    max_length: int = 0
    """Longest text in words or word pieces, its end is kept; 0: as the authors for the history."""
    tags: Tags = "authors"
    """Special word pieces: ``authors`` misses the brackets of two tags, ``whole`` has them."""
    keep_first: bool = False
    """Keep [CLS] in front of a text that is cut; the authors lose it."""
    wordpieces: Path = Path("vocab/bert/bert-base-uncased-vocab.txt")
    """WordPiece vocabulary of ``dic``, relative to the data folder; a pre-trained folder that holds
    a ``vocab.txt`` has precedence."""
    pretrained: Path | None = None
    """Pre-trained encoder (``RUN/model`` of ``prevalent pretrain``, or a converted checkpoint);
    None starts one of the ``--bert`` sizes from random weights."""
    feedback: DialogFeedback = "mixed"
    """Whose actions are walked while training, always told the teacher's: the ``teacher``'s, the
    best (``argmax``), drawn ones (``sample``), or at each step the first or the last (``mixed``)"""
    sample_ratio: float = 0.2
    """``mixed``: share of drawn steps."""
    batch_size: int = 20
    """Episodes of one process and one roll-out."""
    max_steps: int = 20_000
    """Optimizer steps."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            "adamax", lr=5e-5, weight_decay=5e-4, max_norm=math.inf
        )
    )
    model: DialogConfig = field(default_factory=DialogConfig)
    bert: ModelConfig = field(default_factory=ModelConfig)
    walk: DialogWalk = field(default_factory=DialogWalk)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.sample_ratio <= 1:
            raise ValueError(f"--sample-ratio must be in [0, 1], got {self.sample_ratio}")
        if self.pretrained is not None and self.model.encoder != "dic":
            raise ValueError("--pretrained needs --model.encoder dic; add it or drop --pretrained")

    @property
    def text_length(self) -> int:
        """L, longest text in words or word pieces."""
        lengths = LOW_LEVEL_LENGTHS if self.model.actions == "low-level" else DIALOG_LENGTHS
        return self.max_length or lengths[self.history]

    @property
    def max_actions(self) -> int:
        """Most actions of an episode."""
        if self.walk.max_actions:
            return self.walk.max_actions
        if self.path_type == "planner_path":
            return PLAN_ACTIONS
        low_level = self.model.actions == "low-level"
        return LOW_LEVEL_WALK_ACTIONS if low_level else WALK_ACTIONS
