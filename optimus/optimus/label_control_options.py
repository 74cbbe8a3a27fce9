"""Options and presets of ``optimus train-label-control`` and ``optimus evaluate-label-control``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from .config import DecodingOptions, Device, ModelOptions, OptimizerOptions
from .loop_options import LoopOptions, require, require_positive


@dataclass(frozen=True)
class ControlOptions:
    """The terms of the loss (Sec. 4.3) and their weights."""

    updates: Literal["alternating", "released"] = "alternating"
    """alternating: critics on fixed z, then the model against fixed critics; released: the authors'
    code, in which reconstruction has weight 1, all else 0, and label 0 is a constant zero."""
    encoder_weight: float = 1.0
    """Of the term that removes the label from z."""
    encoder_start: float = 0.0
    """Share of the run without that term: an auto-encoder that has learned nothing yet obeys it by
    saying nothing at all."""
    generator_weight: float = 1.0
    """Of the generator's term of the GAN in latent space."""
    discriminator_weight: float = 1.0
    """Of its discriminator."""
    classifier_weight: float = 1.0
    """Of the latent classifier."""
    text_weight: float = 1.0
    """Of the text classifier (beta_cls)."""
    soft_weight: float = 0.0
    """Of the text classifier's loss on softly drawn sentences with another label (Gumbel-softmax),
    which trains encoder, decoder and label vectors; 0 leaves it out."""
    soft_temperature: float = 0.5
    """Of that drawing."""
    adversary: Literal["reverse", "confusion"] = "reverse"
    """reverse: 1 - cross-entropy, the authors'; confusion: cross-entropy towards equal odds."""
    start: Literal["posterior", "random"] = "posterior"
    """Initial map to z: that of the model's posterior mean, which the decoder knows where the model
    is pre-trained, or random as in the authors' code."""
    hidden: int = 0
    """Width of a hidden layer in the critics on z; 0 is none, the authors'."""
    noise: float = 0.0
    """Standard deviation of noise on z in training; 0 is the authors'."""
    critic_steps: int = 1
    """Updates of the critics per step."""
    critic_lr: float = 1e-3
    """Learning rate of the critics."""

    def __post_init__(self) -> None:
        require_positive(self, "critic_steps", prefix="control.")
        require(self.critic_lr > 0, f"--control.critic-lr must be positive, got {self.critic_lr}")
        require(
            0 <= self.encoder_start < 1,
            f"--control.encoder-start must be in [0, 1), got {self.encoder_start}",
        )
        require(
            self.soft_temperature > 0,
            f"--control.soft-temperature must be positive, got {self.soft_temperature}",
        )
        weights = ("encoder", "generator", "discriminator", "classifier", "text", "soft")
        for name in (*(f"{each}_weight" for each in weights), "hidden", "noise"):
            value, option = getattr(self, name), name.replace("_", "-")
            require(value >= 0, f"--control.{option} must not be negative, got {value}")


@dataclass(frozen=True)
class LabeledData:
    """Sentences with labels."""

    train: Path = Path("data/yelp_sentiment/sentiment.train.text")
    """Training text: NAME.text with NAME.labels beside it, a file of `label TAB text`, or the stem
    of STEM.0, STEM.1, ..."""
    test: Path = Path("data/yelp_sentiment/sentiment.test.text")
    """Test text, alike."""
    max_words: int = 300
    """Sentences of more words are left out."""
    batch_size: int = 64
    """Sentences per optimizer step, over all processes together."""

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "max_words", prefix="data.")


@dataclass(frozen=True)
class ControlConfig(LoopOptions):
    """Train a sentence VAE whose sentences have a chosen label."""

    run_dir: Path = Path("runs/label_control/yelp")
    """Folder of the run: config, checkpoints, logs and the final model."""
    model: ModelOptions = field(default_factory=ModelOptions)
    control: ControlOptions = field(default_factory=ControlOptions)
    data: LabeledData = field(default_factory=LabeledData)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.model.inject != "none", "--model.inject none has no latent to control")
        require(
            self.optimizer.accumulate == 1,
            "--optimizer.accumulate must be 1: the critics step in between",
        )


@dataclass(frozen=True)
class EvaluateControlConfig:
    """Reconstruct, transfer to other labels, generate by label, and score all three."""

    run_dir: Path = Path("runs/label_control/yelp")
    """Folder of the run; results are written into it."""
    test: Path | None = None
    """Labelled test text; by default that of the run."""
    max_sentences: int = 1000
    """Only the first sentences of each label together; 0 is all."""
    decoding: DecodingOptions = field(
        default_factory=lambda: DecodingOptions("sample", top_k=5, max_new_tokens=60)
    )
    classifier: Path | None = None
    """Run of `optimus train-classifier` that judges labels; without it, logistic regression on
    words and word pairs of the training text does."""
    self_bleu_sentences: int = 500
    """Conditional samples among which self-BLEU is taken."""
    batch_size: int = 64
    """Sentences encoded or decoded at once."""
    output_dir: Path | None = None
    """Where to write, if not to the run."""
    seed: int = 42
    """Seed of sampling and of the target labels."""
    device: Device = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "self_bleu_sentences")
        require(self.max_sentences >= 0, "--max-sentences must not be negative")


_WIKIPEDIA = ModelOptions(init=(Path("runs/pretrain/wikipedia_32/model"),))
_YELP = ControlConfig(
    run_dir=Path("runs/label_control/yelp"),
    model=_WIKIPEDIA,
    optimizer=OptimizerOptions(lr=5e-6),
    save_every=1000,
)
_SMALL = ControlConfig(
    run_dir=Path("runs/label_control/small_yelp"),
    model=ModelOptions(latent_dim=64, vocabulary="4000", layers=2, hidden=128, dropout=0.0),
    control=ControlOptions(
        adversary="confusion",
        hidden=128,
        noise=0.1,
        encoder_weight=5.0,
        encoder_start=0.4,
        critic_steps=2,
    ),
    data=LabeledData(
        Path("data/yelp_sentiment/sentiment.dev"),
        Path("data/yelp_sentiment/sentiment.test"),
        max_words=20,
    ),
    optimizer=OptimizerOptions(lr=1e-3, warmup_steps=100),
    max_steps=2500,
    save_every=500,
    seed=1,
)
_TOY = replace(
    _SMALL,
    run_dir=Path("runs/label_control/toy"),
    model=ModelOptions(latent_dim=32, vocabulary="400", layers=1, hidden=64, dropout=0.0),
    control=ControlOptions(
        adversary="confusion", hidden=64, noise=0.1, encoder_weight=2.0, encoder_start=0.5
    ),
    data=LabeledData(
        Path("data/toy-labels/train.txt"), Path("data/toy-labels/test.txt"), batch_size=32
    ),
    optimizer=OptimizerOptions(lr=1.5e-3, warmup_steps=100),
    max_steps=4000,
    log_every=250,
)
_SMOKE = replace(
    _TOY,
    run_dir=Path("runs/label_control/smoke"),
    model=ModelOptions(latent_dim=8, vocabulary="400", layers=1, hidden=64),
    data=replace(_TOY.data, batch_size=8),
    max_steps=4,
    log_every=2,
    save_every=2,
)

PRESETS: dict[str, tuple[str, ControlConfig]] = {
    "yelp": ("Sec. 4.3, Yelp sentiment", _YELP),
    "yelp-released": (
        "Yelp sentiment as the authors' code trains it: reconstruction alone",
        replace(
            _YELP,
            run_dir=Path("runs/label_control/yelp_released"),
            control=ControlOptions(updates="released"),
        ),
    ),
    "small-yelp": ("Yelp sentiment from scratch, CPU", _SMALL),
    "small-rt-polarity": (
        "film reviews from scratch, CPU",
        replace(
            _SMALL,
            run_dir=Path("runs/label_control/small_rt_polarity"),
            data=LabeledData(
                Path("data/rt-polarity/train.txt"), Path("data/rt-polarity/test.txt"), max_words=30
            ),
            max_steps=2000,
        ),
    ),
    "toy": ("tense in the toy grammar, three labels", _TOY),
    "smoke": ("a few steps", _SMOKE),
}
