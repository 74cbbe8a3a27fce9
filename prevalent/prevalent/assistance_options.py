"""Options of ``prevalent train-hanna``; the presets are in `assistance_presets`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .agent_config import OptimizerConfig
from .agent_options import AgentRun
from .assistance_config import AssistanceConfig, SearchConfig
from .config import ModelConfig


@dataclass(frozen=True)
class HannaRun(AgentRun):
    """Train the agent that looks for objects and can ask for help."""

    run_dir: Path = Path("runs/hanna")
    """Folder of checkpoints, logs and snapshots; the same command continues there."""
    angle_layout: Literal["interleaved", "block"] = "block"
    """Order of the angle features; pre-training and HANNA use ``block``."""
    words: Path = Path("hanna/vocab.txt")
    """Word vocabulary of ``words`` encoders, relative to the data folder."""
    wordpieces: Path = Path("vocab/bert/bert-base-uncased-vocab.txt")
    """WordPiece vocabulary of ``dic``, relative to the data folder; a pre-trained folder that holds
    a ``vocab.txt`` has precedence."""
    max_length: int = 50
    """Longest text in words or word pieces."""
    held_out: tuple[str, ...] = (
        "val_seen_env_seen_anna",
        "val_seen_env_unseen_anna",
        "val_unseen",
    )
    """Splits to evaluate; the end of a seen one says whether ANNA tells routes of training."""
    pretrained: Path | None = None
    """Pre-trained encoder (``RUN/model`` of ``prevalent pretrain``, or a converted checkpoint);
    None starts one of the ``--bert`` sizes from random weights."""
    batch_size: int = 32
    """Episodes of one process and one roll-out."""
    max_steps: int = 30_000
    """Optimizer steps."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig("adam", lr=1e-4, weight_decay=5e-4)
    )
    """No gradient is clipped, whatever ``max_norm`` says."""
    model: AssistanceConfig = field(default_factory=AssistanceConfig)
    bert: ModelConfig = field(default_factory=ModelConfig)
    search: SearchConfig = field(default_factory=SearchConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrained is not None and self.model.encoder != "dic":
            raise ValueError("--pretrained needs --model.encoder dic; add it or drop --pretrained")
        if self.load_optimizer:
            raise ValueError("--load-optimizer is not for HANNA; the state stays in checkpoints")
