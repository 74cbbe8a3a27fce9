"""Options and presets of ``optimus train-dialog`` and ``optimus evaluate-dialog``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from .config import DecodingOptions, Device, ModelOptions, OptimizerOptions
from .loop_options import LoopOptions, require, require_positive


@dataclass(frozen=True)
class FusionOptions:
    """The fused latent space (Sec. 4.2)."""

    context_layers: int = 2
    """Layers of BERT, from the last, of which contexts have their own copy."""
    frozen_layers: int = 10
    """Layers of BERT, from the first, that are not trained."""
    weight: float = 1.0
    """Weight beta of (pull - 2 push) / sqrt(latent dim)."""
    push: Literal["others", "constant"] = "others"
    """others: distance to the nearest other row; constant: the authors' term, in which a row is its
    own nearest neighbour."""
    context_mask: Literal["padding", "released"] = "padding"
    """released adds 1 to the attention scores of tokens in the copied layers and hides nothing."""
    speakers: Literal["row", "last-row"] = "row"
    """row: the last utterance of each context is the other speaker's; last-row: the authors' rule,
    decided by the last context of a batch."""
    style: Path | None = None
    """Extension: file of sentences of a style, one a line, for a third branch."""
    style_weight: float = 1.0
    """Weight of that branch."""

    def __post_init__(self) -> None:
        require_positive(self, "context_layers", prefix="fusion.")
        for name in ("frozen_layers", "weight", "style_weight"):
            value, option = getattr(self, name), name.replace("_", "-")
            require(value >= 0, f"--fusion.{option} must not be negative, got {value}")


@dataclass(frozen=True)
class DialogData:
    """The dialogues; ``optimus prepare dailydialog`` writes the folder."""

    folder: Path = Path("data/dailydialog")
    """Folder with train.txt and test.txt of `context TAB response` lines."""
    train_file: str = "train.txt"
    """File of the folder to train on."""
    max_tokens: int = 512
    """A context keeps its last tokens, a response its first."""
    batch_size: int = 8
    """Turns per optimizer step, over all processes together."""

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", prefix="data.")
        require(
            4 <= self.max_tokens <= 512,
            f"--data.max-tokens must be in 4..512 (BERT's positions), got {self.max_tokens}",
        )


@dataclass(frozen=True)
class DialogConfig(LoopOptions):
    """Train dialog responses in a fused latent space."""

    run_dir: Path = Path("runs/dialog/dailydialog")
    """Folder of the run: config, checkpoints, logs and the final model."""
    model: ModelOptions = field(default_factory=ModelOptions)
    fusion: FusionOptions = field(default_factory=FusionOptions)
    data: DialogData = field(default_factory=DialogData)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.model.inject != "none", "--model.inject none has no latent to fuse")
        require(
            self.optimizer.accumulate == 1,
            "--optimizer.accumulate must be 1: distances are taken within one batch",
        )


@dataclass(frozen=True)
class EvaluateDialogConfig:
    """Answer every context several times and score the answers, or score a file of answers."""

    run_dir: Path = Path("runs/dialog/dailydialog")
    """Folder of the run; results are written into it."""
    data: Path | None = None
    """Folder of the dialogues; by default that of the run."""
    split: Literal["train", "valid", "test"] = "test"
    """Which contexts to answer."""
    responses: int = 10
    """Responses per context."""
    max_contexts: int = 0
    """Only the first contexts; 0 is all."""
    decoding: DecodingOptions = field(
        default_factory=lambda: DecodingOptions("sample", top_p=0.9, max_new_tokens=60)
    )
    batch_size: int = 32
    """Contexts answered at once."""
    baseline: Literal["none", "random", "human"] = "none"
    """random: responses drawn from the training file; human: the reference itself."""
    generated: Path | None = None
    """Score this file of `context TAB reference TAB response` lines instead."""
    references: Path | None = None
    """File of `context TAB reference` lines with several references for a context."""
    glove: Path | None = None
    """GloVe text file for the bag-of-words scores; without it they are left out."""
    glove_width: int = 200
    """Numbers per word in it."""
    style: Path | None = None
    """Extension: file of style sentences towards which the latents move."""
    style_degree: float = 0.0
    """How far: 0 stays, 1 arrives at the nearest style sentences."""
    style_classifier: Path | None = None
    """Run of `optimus train-classifier` that tells the style (its last class) from other text."""
    latents: int = 0
    """Also write the latents of this many turns from both branches to latents.npz, to be drawn by
    `optimus plot-latents`."""
    output_dir: Path | None = None
    """Where to write, if not to the run."""
    seed: int = 42
    """Seed of sampling and of the random baseline."""
    device: Device = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        require_positive(self, "responses", "batch_size", "glove_width")
        require(
            self.latents >= 0 and self.max_contexts >= 0,
            "--latents and --max-contexts must not be negative",
        )
        require(
            self.style_degree == 0 or self.style is not None,
            "--style-degree needs --style, a file of style sentences",
        )


WIKIPEDIA = ModelOptions(init=(Path("runs/pretrain/wikipedia_32/model"),))


def _dailydialog(beta: float) -> DialogConfig:
    return DialogConfig(
        run_dir=Path("runs", f"dialog/dailydialog_{beta:.1f}"),
        model=WIKIPEDIA,
        fusion=FusionOptions(weight=beta),
        save_every=2000,
    )


_SMALL = DialogConfig(
    run_dir=Path("runs/dialog/small_dailydialog"),
    model=ModelOptions(latent_dim=64, vocabulary="4000", layers=2, hidden=128),
    fusion=FusionOptions(context_layers=1, frozen_layers=0),
    data=DialogData(train_file="valid.txt", max_tokens=96, batch_size=32),
    optimizer=OptimizerOptions(lr=1e-3, warmup_steps=100),
    max_steps=1500,
    save_every=250,
    seed=1,
)
_SMOKE = replace(
    _SMALL,
    run_dir=Path("runs/dialog/smoke"),
    model=replace(_SMALL.model, latent_dim=8, vocabulary="400", layers=2, hidden=64),
    data=replace(_SMALL.data, train_file="train.txt", batch_size=4),
    max_steps=4,
    log_every=2,
    save_every=2,
)

PRESETS: dict[str, tuple[str, DialogConfig]] = {
    **{
        f"dailydialog-{beta:.1f}": (f"Sec. 4.2, DailyDialog, beta {beta:.1f}", _dailydialog(beta))
        for beta in (1.0, 2.0, 30.0)
    },
    "switchboard": (
        "Sec. 4.2, Switchboard, several references",
        replace(
            _dailydialog(1.0),
            run_dir=Path("runs/dialog/switchboard"),
            data=DialogData(Path("data/switchboard")),
            epochs=5.0,
        ),
    ),
    "stylized": (
        "styled responses, an extension",
        replace(
            _dailydialog(1.0),
            run_dir=Path("runs/stylized_response/holmes"),
            fusion=FusionOptions(style=Path("data/holmes/train.txt")),
            data=DialogData(Path("data/reddit")),
        ),
    ),
    "small-dailydialog": ("DailyDialog's validation dialogues from scratch, CPU", _SMALL),
    "smoke": ("a few steps", _SMOKE),
}
