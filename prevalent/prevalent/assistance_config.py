"""Sizes and switches of HANNA's agents; `train-hanna` nests these one level deep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .agent_config import check_angle_size, check_dropouts

AskPolicy = Literal["learned", "never", "every", "random"]
Reset = Literal["batch", "own", "never"]


@dataclass(frozen=True)
class AssistanceConfig:
    """The two networks of the agent that can ask (Nguyen & Daumé III, EMNLP 2019, Sec. 5)."""

    encoder: Literal["words", "dic"] = "words"
    """``words``: embeddings (the base agent); ``dic``: the pre-trained text layers (PREVALENT's
    agent)."""
    update_language: bool = False
    """``dic``: train the text layers; the authors keep them frozen."""
    hidden_size: int = 256
    """d, width of words, states and attention."""
    num_heads: int = 8
    """Heads of every attention."""
    num_layers: int = 1
    """Layers of the text encoder and of both decoders."""
    dropout: float = 0.3
    """Dropout of attention weights, residual branches and inputs."""
    ask_size: int = 128
    """Width of the embedded last decision to ask."""
    angle_size: int = 128
    """A, width of the angles of an action."""
    reasons: bool = True
    """Decide whether to ask from three predicted reasons; False decides from the state."""
    similar_situations: bool = True
    """Remember what was done in situations like the present one and depart from it."""
    reset: Reset = "batch"
    """Who forgets the present subtask when an instruction is new: ``batch``: everyone in the batch
    (the authors' code), ``own``: the agent that it is for (the paper), ``never``."""

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_heads", "num_layers", "ask_size"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--model.{option} must be at least 1, got {getattr(self, name)}")
        if self.hidden_size % self.num_heads or self.hidden_size % 2:
            raise ValueError(
                f"--model.hidden-size {self.hidden_size} must be even and a multiple of "
                f"--model.num-heads {self.num_heads}"
            )
        check_dropouts(self.dropout)
        check_angle_size(self.angle_size)


@dataclass(frozen=True)
class SearchConfig:
    """How an episode is walked, when help is asked for, and what is taught."""

    train_length: int = 20
    """Most steps of an episode in training."""
    eval_length: int = 50
    """Most steps of an episode in evaluation."""
    ask: AskPolicy = "learned"
    """``never``, ``every`` (each ``ask_every`` steps) and ``random`` are baselines without an
    asking network."""
    ask_every: int = 5
    """Steps between two requests of ``ask=every``."""
    ask_probability: float = 0.2
    """Of a request at a step under ``ask=random``."""
    start_radius: float = 2.0
    """Meters to the start of a route in a neighboring place, for help to be had."""
    curiosity: float = 1.0
    """Weight of staying away from what went wrong here before (the authors' alpha)."""
    uncertain_threshold: float = 0.25
    """Entropy, in units of log 37, from which on a wrong choice counts as uncertain."""
    perfect_interpretation: bool = False
    """On a route, follow the shortest path instead of the policy (the paper's upper bound)."""
    vision_only: bool = False
    """On a route, hide ANNA's words: only the view of its end is known."""

    def __post_init__(self) -> None:
        for name in ("train_length", "eval_length", "ask_every"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--search.{option} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.ask_probability <= 1:
            raise ValueError(
                f"--search.ask-probability must be in [0, 1], got {self.ask_probability}"
            )
        if self.curiosity < 0 or self.start_radius < 0:
            raise ValueError("--search.curiosity and --search.start-radius must not be negative")
