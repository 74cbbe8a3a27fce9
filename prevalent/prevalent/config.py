"""Configuration of every command, and the presets: one per row of the paper or of its ablations.

Hao et al., "Towards Learning a Generic Agent for Vision-and-Language Navigation via Pre-training",
CVPR 2020.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Precision = Literal["fp32", "bf16", "fp16", "apex-O1", "apex-O2"]


def default_data_dir() -> Path:
    """``$PREVALENT_DATA``, else ``data``: the folder with ``r2r/``, ``connectivity/`` and so on."""
    return Path(os.environ.get("PREVALENT_DATA", "data"))


@dataclass(frozen=True)
class ModelConfig:
    """The image-attended text encoder and its two heads (the released checkpoint's sizes)."""

    vocab_size: int = 30522
    """V, number of word pieces."""
    hidden_size: int = 768
    """d, width of both streams."""
    num_heads: int = 12
    """Attention heads."""
    intermediate_size: int = 3072
    """Width of the feed-forward layers."""
    num_language_layers: int = 9
    """Text layers before fusion."""
    num_cross_layers: int = 4
    """Cross-modal layers."""
    image_dim: int = 2176
    """Width of a view: image features (2048) and angle features (128)."""
    num_actions: int = 36
    """Outputs of the action head; targets are places in the candidate list, 0 = stop."""
    max_positions: int = 512
    """Longest text."""
    num_token_types: int = 2
    """Rows of the token-type embedding; only row 0 is used."""
    dropout: float = 0.1
    """Dropout on embeddings, projections and residual branches."""
    attention_dropout: float = 0.1
    """Dropout on attention weights."""
    layer_norm_eps: float = 1e-12
    """Epsilon of every LayerNorm."""
    initializer_range: float = 0.02
    """Standard deviation of the initial weights."""
    update_language: bool = True
    """False stops the gradient between the text layers and the fusion."""
    update_cross: bool = True
    """False stops the gradient at the output of the cross-modal layers."""

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"--model.hidden-size {self.hidden_size} must be a multiple of --model.num-heads "
                f"{self.num_heads}"
            )
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"--model.{name.replace('_', '-')} must be in [0, 1), got {getattr(self, name)}"
                )
        for name in ("num_language_layers", "num_cross_layers"):
            if getattr(self, name) < 0:
                raise ValueError(f"--model.{name.replace('_', '-')} must not be negative")


@dataclass(frozen=True)
class PretrainConfig:
    """Pre-training on image-text-action triplets: masked words and the next action."""

    run_dir: Path = Path("runs/pretrain")
    """Folder of checkpoints, logs and the exported model; the same command continues there."""
    data_dir: Path = field(default_factory=default_data_dir)
    """Folder with ``r2r/``, ``connectivity/`` and ``vocab/`` (default: $PREVALENT_DATA)."""
    train: tuple[str, ...] = ("triplets:triplets",)
    """Sources: ``triplets:FILE_OR_FOLDER``, ``r2r:SPLIT``, ``r2r:SPLIT@N``, ``r2r:./file.json``."""
    held_out: tuple[str, ...] = ("r2r:val_seen", "r2r:val_unseen")
    """Sources that are only evaluated, one figure each."""
    world: Literal["matterport", "toy"] = "matterport"
    """``toy`` makes houses, features and instructions by code in ``RUN_DIR/world``."""
    toy_houses: int = 24
    """Training houses of the toy world."""
    features: Path | None = Path("features/ResNet-152-imagenet.tsv")
    """View features, relative to the data folder; None takes random stand-in features."""
    standin_dim: int = 64
    """Width of the stand-in features where ``features`` is None."""
    angle_size: int = 128
    """Width of the angle features."""
    vocabulary: Path = Path("vocab/bert/bert-base-uncased-vocab.txt")
    """WordPiece vocabulary, relative to the data folder."""
    max_length: int = 80
    """T, longest instruction in word pieces."""
    max_path_steps: int = 10
    """Most actions collected from a path."""

    batch_size: int = 96
    """Triplets of one process and one forward pass."""
    accumulate: int = 1
    """Forward passes of one optimizer step."""
    epochs: int = 20
    """Passes over the triplets, where ``max_steps`` is 0."""
    max_steps: int = 0
    """Optimizer steps; 0 follows ``epochs``."""
    lr: float = 5e-5
    """Peak learning rate; falls linearly to 0."""
    warmup_steps: int = 0
    """Steps of linear warm-up."""
    weight_decay: float = 0.0
    """Decay of the parameters that the authors decay."""
    max_norm: float = 1.0
    """Gradient norm is clipped to this."""
    optimizer: Literal["authors", "torch", "fused"] = "authors"
    """``authors``: AdamW of pytorch-transformers; ``torch`` and ``fused``: torch's (apex's)."""
    predict_action: bool = True
    """False leaves masked words alone (ablation)."""
    use_images: bool = True
    """False is a text-only encoder (ablation)."""
    init_from: Path | None = None
    """BERT weights (folder or file) for the text side, or a released or converted checkpoint."""

    precision: Precision = "fp32"
    """Arithmetic of the forward and backward pass."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    seed: int = 42
    """Seed of weights, order and masks."""
    log_every: int = 50
    """Steps between two records."""
    eval_every: int = 2000
    """Steps between two evaluations; the last step is always evaluated."""
    eval_batches: int = 50
    """Batches of every held-out source."""
    save_every: int = 2000
    """Steps between two checkpoints."""
    model: ModelConfig = field(default_factory=ModelConfig)

    def __post_init__(self) -> None:
        for name in ("batch_size", "accumulate", "epochs", "log_every", "eval_every", "save_every"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be at least 1, got {getattr(self, name)}")
        if self.lr <= 0:
            raise ValueError(f"--lr must be positive, got {self.lr}")
        if self.max_length > self.model.max_positions:
            raise ValueError(
                f"--max-length {self.max_length} exceeds --model.max-positions "
                f"{self.model.max_positions}; lower the one or raise the other"
            )
        if self.angle_size < 4 or self.angle_size % 4:
            raise ValueError(f"--angle-size must be a multiple of 4, got {self.angle_size}")
        for source in (*self.train, *self.held_out):
            if source.partition(":")[0] not in {"triplets", "r2r"} or ":" not in source:
                raise ValueError(
                    f"source {source!r} of --train or --held-out must read triplets:PATH or "
                    "r2r:SPLIT, for example r2r:train@100"
                )
        if not self.train:
            raise ValueError("--train needs at least one source, for example r2r:train")


SMALL_MODEL = ModelConfig(
    hidden_size=128,
    num_heads=4,
    intermediate_size=512,
    num_language_layers=2,
    num_cross_layers=2,
    dropout=0.0,
    attention_dropout=0.0,
)
TOY_MODEL = ModelConfig(
    hidden_size=64,
    num_heads=4,
    intermediate_size=128,
    num_language_layers=2,
    num_cross_layers=2,
    dropout=0.0,
    attention_dropout=0.0,
)
TINY_MODEL = ModelConfig(
    hidden_size=16, num_heads=2, intermediate_size=32, num_language_layers=1, num_cross_layers=1
)

PRETRAIN_PRESETS: dict[str, tuple[str, PretrainConfig]] = {
    "prevalent-base": (
        "Sec. 3, 8 GPUs: batch 8 x 96, 20 epochs, learning rate 5e-5",
        PretrainConfig(run_dir=Path("runs/pretrain/base")),
    ),
    "prevalent-checkpoint-12864": (
        "the released checkpoint by its name, 8 GPUs: one epoch at a global batch of 512",
        PretrainConfig(run_dir=Path("runs/pretrain/checkpoint-12864"), batch_size=64, epochs=1),
    ),
    "prevalent-mlm-only": (
        "ablation: image-attended masked words without action prediction",
        PretrainConfig(run_dir=Path("runs/pretrain/mlm-only"), predict_action=False),
    ),
    "prevalent-text-only": (
        "ablation: masked words without images and actions",
        PretrainConfig(
            run_dir=Path("runs/pretrain/text-only"), predict_action=False, use_images=False
        ),
    ),
    "prevalent-bert-init": (
        "variant: text side from bert-base-uncased (a local folder)",
        PretrainConfig(
            run_dir=Path("runs/pretrain/bert-init"), init_from=Path("bert-base-uncased")
        ),
    ),
    "r2r-small": (
        "small model on triplets of the R2R training paths, random stand-in features",
        PretrainConfig(
            run_dir=Path("runs/pretrain/r2r-small"),
            train=("r2r:train",),
            features=None,
            batch_size=16,
            max_steps=6000,
            lr=1e-3,
            warmup_steps=200,
            eval_every=500,
            eval_batches=60,
            save_every=500,
            model=SMALL_MODEL,
        ),
    ),
    "demo": (
        "toy houses made by code, a few minutes on a CPU",
        PretrainConfig(
            run_dir=Path("runs/pretrain/demo"),
            train=("r2r:train",),
            world="toy",
            batch_size=32,
            max_steps=1500,
            lr=1e-3,
            warmup_steps=50,
            eval_every=250,
            eval_batches=10,
            save_every=500,
            model=TOY_MODEL,
        ),
    ),
    "smoke": (
        "toy houses, a few steps: does everything run",
        PretrainConfig(
            run_dir=Path("runs/pretrain/smoke"),
            train=("r2r:train",),
            world="toy",
            toy_houses=2,
            batch_size=4,
            max_steps=6,
            lr=1e-3,
            log_every=2,
            eval_every=3,
            eval_batches=2,
            save_every=3,
            model=TINY_MODEL,
        ),
    ),
}
