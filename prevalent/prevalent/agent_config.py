"""Sizes and switches of the Room-to-Room agents; training commands nest these one level deep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EncoderKind = Literal["lstm", "dic", "bert", "bert-projected"]
Normalize = Literal["total", "batch", "none"]
Merge = Literal["mean", "max", "sum", "cat"]
WalkReward = Literal["sr_sc", "spl", "spl_sc", "spl_last", "spl_last_sc"]


@dataclass(frozen=True)
class FollowerConfig:
    """The agent that follows instructions (EnvDrop's, or PREVALENT's with ``encoder=dic``)."""

    encoder: EncoderKind = "lstm"
    """``lstm``: words, once an episode; ``dic``: the pre-trained encoder, at every step (the
    paper's agent); ``bert``, ``bert-projected``: the same below a decoder-sized LSTM."""
    hidden_size: int = 512
    """H, width of the decoder and of the critic (1024 in the published PREVALENT agent)."""
    word_size: int = 256
    """Width of word embeddings (``lstm``) or of the projection (``bert-projected``)."""
    action_size: int = 64
    """Width of the embedded heading and elevation of the agent."""
    encoder_size: int = 1024
    """``dic``: width of its LSTM in one direction."""
    bidirectional: bool = True
    """Read the text in both directions."""
    reverse_input: bool = True
    """``dic``: reverse the words before the LSTM."""
    top_lstm: bool = True
    """``dic``: an LSTM above the transformer."""
    summary: Literal["tanh", "max"] = "tanh"
    """First decoder state: from the last states (tanh) or the maximum over words."""
    zero_start: bool = False
    """Start the decoder at zeros instead."""
    dropout: float = 0.5
    """Dropout of decoder, critic and LSTM encoders."""
    encoder_dropout: float = 0.4
    """``dic``: dropout of the text context."""
    feature_dropout: float = 0.3
    """Dropout of image features, an element at a time; in back-translation, of whole columns."""
    angle_size: int = 128
    """A, width of angle features."""
    include_vision: bool = True
    """False: transformer encoders read the text alone, once an episode."""
    encoder_sees_noise: bool = True
    """The encoder sees the dropped features of back-translation too."""
    num_texts: int = 1
    """M, instructions of a path that are read side by side; a path with fewer repeats them."""
    merge_texts: Merge = "mean"
    """How a step merges what it recalls of M instructions."""
    update_language: bool = False
    """Train the text layers of the transformer."""
    update_cross: bool = False
    """Train its image fusion; False is the feature-based agent."""

    def __post_init__(self) -> None:
        for name in ("hidden_size", "word_size", "action_size", "encoder_size", "num_texts"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--model.{option} must be at least 1, got {getattr(self, name)}")
        if self.bidirectional and self.encoder != "dic" and self.hidden_size % 2:
            raise ValueError(
                f"--model.hidden-size {self.hidden_size} must be even for an encoder that reads "
                "in both directions"
            )
        check_dropouts(self.dropout, self.encoder_dropout, self.feature_dropout)
        check_angle_size(self.angle_size)


@dataclass(frozen=True)
class SpeakerConfig:
    """The agent that describes paths (Fried et al., NeurIPS 2018)."""

    hidden_size: int = 512
    """Width of its LSTMs, both directions together."""
    word_size: int = 256
    """Width of word embeddings."""
    dropout: float = 0.6
    """Dropout of states and words."""
    feature_dropout: float = 0.3
    """Dropout of image features, an element at a time."""
    angle_size: int = 128
    """A, width of angle features."""
    max_decode: int = 120
    """Longest instruction that is generated, in words."""

    def __post_init__(self) -> None:
        if self.hidden_size < 2 or self.hidden_size % 2:
            raise ValueError(f"--speaker.hidden-size must be even, got {self.hidden_size}")
        if self.max_decode < 1:
            raise ValueError(f"--speaker.max-decode must be at least 1, got {self.max_decode}")
        check_dropouts(self.dropout, self.feature_dropout)
        check_angle_size(self.angle_size)


@dataclass(frozen=True)
class OptimizerConfig:
    """One optimizer for each module, all with the same settings."""

    kind: Literal["rms", "adam", "adamax", "sgd"] = "rms"
    """Update rule, with PyTorch's defaults."""
    lr: float = 1e-4
    """Learning rate."""
    weight_decay: float = 0.0
    """Weight decay. Deviation: the authors' flag of that name reaches no optimizer."""
    max_norm: float = 40.0
    """Gradient norms of encoder and decoder are clipped to this; the critic's is not."""

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"--optimizer.lr must be positive, got {self.lr}")
        if self.max_norm <= 0:
            raise ValueError(f"--optimizer.max-norm must be positive, got {self.max_norm}")


@dataclass(frozen=True)
class RolloutConfig:
    """How an episode is walked and scored."""

    max_actions: int = 35
    """Most moves of an episode."""
    move_after_stop: bool = False
    """True: an agent that has stopped walks on where it draws a move, as in PREVALENT's code."""
    reuse_text: bool = False
    """Train mode: run the text layers once an episode (one dropout mask for all its steps). In eval
    mode they always run once, which changes no number."""
    forbid_revisits: bool = False
    """Do not go back to a viewpoint of the episode (the authors' submission mode)."""
    gamma: float = 0.9
    """Discount of rewards."""
    normalize: Normalize = "total"
    """The reinforcement loss is divided by all actions taken, by the batch or by nothing."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus."""

    def __post_init__(self) -> None:
        if self.max_actions < 1:
            raise ValueError(f"--rollout.max-actions must be at least 1, got {self.max_actions}")
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"--rollout.gamma must be in [0, 1], got {self.gamma}")


def check_dropouts(*values: float) -> None:
    """Raise ``ValueError`` unless every probability is in [0, 1)."""
    for value in values:
        if not 0 <= value < 1:
            raise ValueError(f"dropout probabilities must be in [0, 1), got {value}")


def check_angle_size(size: int) -> None:
    """Raise ``ValueError`` unless ``size`` holds whole groups of four numbers."""
    if size < 4 or size % 4:
        raise ValueError(f"angle-size must be a multiple of 4, got {size}")
