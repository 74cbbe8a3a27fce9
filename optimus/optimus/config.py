"""Configurations of the commands.

The dataclasses are the command line: a field is an option, its docstring the help text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .runtime.precision import Precision

Device = Literal["auto", "cpu", "cuda"]
Inject = Literal["memory", "embedding", "both", "none"]
Kind = Literal[
    "free-bits", "free-bits-floor", "deterministic-connect", "autoencoder", "language-model"
]
Habit = Literal["adamw", "order", "horizon"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class ModelOptions:
    """The sentence VAE, BERT -> z -> GPT-2, and where its weights come from."""

    latent_dim: int = 32
    """Size of the sentence vector z."""
    inject: Inject = "both"
    """How z enters GPT-2 (Sec. 3.1); none makes a plain language model."""
    init: tuple[Path, ...] = ()
    """Initial weights: one folder (a model of ours or of the authors) or two (a BERT folder and a
    GPT-2 folder); none starts from scratch."""
    vocabulary: str = "8000"
    """Folder with bert/ and gpt2/ vocabularies, or, from scratch, the size of vocabularies to learn
    from the corpus."""
    layers: int = 12
    """From scratch: layers of the encoder and of the decoder."""
    hidden: int = 768
    """From scratch: width of both networks, a multiple of 64 (a head has 64 dimensions)."""
    dropout: float = 0.1
    """Dropout in embeddings, attention and residual branches of both networks."""

    def __post_init__(self) -> None:
        _require(
            self.latent_dim >= 1, f"--model.latent-dim must be at least 1, got {self.latent_dim}"
        )
        _require(
            len(self.init) <= 2,
            f"--model.init takes one folder (an Optimus model) or two (BERT, GPT-2), got "
            f"{len(self.init)}",
        )
        _require(self.layers >= 1, f"--model.layers must be at least 1, got {self.layers}")
        _require(
            self.hidden >= 64 and self.hidden % 64 == 0,
            f"--model.hidden must be a positive multiple of 64, got {self.hidden}",
        )
        _require(0 <= self.dropout < 1, f"--model.dropout must be in [0, 1), got {self.dropout}")
        _require(
            not self.vocabulary.isdigit() or int(self.vocabulary) >= 300,
            "--model.vocabulary must be a folder or a size of at least 300 (256 bytes and the "
            f"special tokens), got {self.vocabulary}",
        )


@dataclass(frozen=True)
class ObjectiveOptions:
    """The loss of a sentence: -log p(x|z) + beta KL, with free bits and a cyclical beta."""

    kind: Kind = "free-bits"
    """free-bits masks dimensions at or below the threshold as the authors do, free-bits-floor is
    max(KL, threshold); deterministic-connect samples with unit variance; autoencoder uses z = mean;
    language-model has no latent."""
    beta: float = 1.0
    """Largest weight of the KL term; 0 leaves a noisy auto-encoder."""
    free_bits: float = 0.5
    """Threshold lambda per dimension in nats (Eq. 9)."""
    cycles: int = 1
    """Cycles of the beta schedule in the run."""
    ratio_zero: float = 0.5
    """Share of a cycle with beta 0."""
    ratio_increase: float = 0.25
    """Share of a cycle in which beta rises."""
    length_weighted: bool = False
    """Divide the reconstruction term by the number of tokens of the sentence."""
    mask_probability: float = 0.0
    """Share of the encoder's tokens to corrupt (denoising)."""

    def __post_init__(self) -> None:
        _require(self.beta >= 0, f"--objective.beta must not be negative, got {self.beta}")
        _require(
            self.free_bits >= 0, f"--objective.free-bits must not be negative, got {self.free_bits}"
        )
        _require(self.cycles >= 1, f"--objective.cycles must be at least 1, got {self.cycles}")
        _require(
            0 <= self.ratio_zero <= 1,
            f"--objective.ratio-zero must be in [0, 1], got {self.ratio_zero}",
        )
        _require(
            0 < self.ratio_increase <= 1,
            f"--objective.ratio-increase must be in (0, 1], got {self.ratio_increase}",
        )
        _require(
            0 <= self.mask_probability < 1,
            f"--objective.mask-probability must be in [0, 1), got {self.mask_probability}",
        )


@dataclass(frozen=True)
class DataOptions:
    """The corpus; ``optimus prepare`` writes the folders."""

    folder: Path = Path("data/penn")
    """Folder with train.txt (or the shards of a large corpus), valid.txt and test.txt."""
    format: Literal["text", "label-text"] = "text"
    """text: a sentence a line; label-text: label TAB sentence, the label is left out."""
    block_size: int = 100
    """Sentences with more words than this are left out of training and evaluation."""
    batch_size: int = 16
    """Sentences per optimizer step, over all processes and accumulation steps together."""

    def __post_init__(self) -> None:
        _require(
            1 <= self.block_size <= 510,
            f"--data.block-size must be in 1..510 (BERT has 512 positions), got {self.block_size}",
        )
        _require(
            self.batch_size >= 1, f"--data.batch-size must be at least 1, got {self.batch_size}"
        )


@dataclass(frozen=True)
class OptimizerOptions:
    """AdamW, linear warm-up, linear decay to zero; gradients are clipped to norm 1."""

    kind: Literal["torch", "fused"] = "torch"
    """fused takes apex's FusedAdam where its kernels are installed, else torch's fused AdamW."""
    lr: float = 5e-5
    """Learning rate after the warm-up."""
    weight_decay: float = 0.0
    """Decay of the weights, biases and LayerNorm excepted."""
    warmup_steps: int = 0
    """Steps of the warm-up."""
    accumulate: int = 1
    """Backward passes per optimizer step."""

    def __post_init__(self) -> None:
        _require(self.lr > 0, f"--optimizer.lr must be positive, got {self.lr}")
        _require(
            self.weight_decay >= 0,
            f"--optimizer.weight-decay must not be negative, got {self.weight_decay}",
        )
        _require(
            self.warmup_steps >= 0,
            f"--optimizer.warmup-steps must not be negative, got {self.warmup_steps}",
        )
        _require(
            self.accumulate >= 1,
            f"--optimizer.accumulate must be at least 1, got {self.accumulate}",
        )


@dataclass(frozen=True)
class TrainConfig:
    """Train a sentence VAE; running the same command again continues."""

    run_dir: Path = Path("runs/train")
    """Folder of the run: config, checkpoints, logs and the final model."""
    model: ModelOptions = field(default_factory=ModelOptions)
    objective: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    data: DataOptions = field(default_factory=DataOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    epochs: float = 1.0
    """Passes over the training sentences, unless --max-steps is given."""
    max_steps: int = 0
    """Optimizer steps; 0 leaves the length to --epochs."""
    log_every: int = 100
    """Steps between two log lines."""
    save_every: int = 1000
    """Steps between two checkpoints; there is one at the end in any case."""
    eval_every: int = 0
    """Steps between two evaluations on the validation split; 0 evaluates at the end only."""
    keep: int = 2
    """Newest checkpoints that stay on disk."""
    seed: int = 42
    """Seed of python, numpy and torch; rank r uses seed + r."""
    device: Device = "auto"
    """Where to train."""
    precision: Precision = "fp32"
    """Arithmetic of the forward pass."""
    compat: tuple[Habit, ...] = ()
    """Habits of the authors' code to restore: adamw (their update rule and parameter groups), order
    (file order, longest first, incomplete batches dropped), horizon (pre-training: the learning
    rate decays over the first shard alone)."""

    def __post_init__(self) -> None:
        _require(self.epochs > 0, f"--epochs must be positive, got {self.epochs}")
        _require(self.max_steps >= 0, f"--max-steps must not be negative, got {self.max_steps}")
        for name in ("log_every", "save_every", "keep"):
            value = getattr(self, name)
            option = name.replace("_", "-")
            _require(value >= 1, f"--{option} must be at least 1, got {value}")
        _require(self.eval_every >= 0, f"--eval-every must not be negative, got {self.eval_every}")
        _require(
            (self.objective.kind == "language-model") == (self.model.inject == "none"),
            "--objective.kind language-model and --model.inject none belong together, got "
            f"{self.objective.kind} and {self.model.inject}",
        )
        _require(
            self.data.batch_size % self.optimizer.accumulate == 0,
            f"--data.batch-size {self.data.batch_size} must be a multiple of "
            f"--optimizer.accumulate {self.optimizer.accumulate}",
        )


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a model on a split, its checkpoints by reconstruction, or a file of generated text."""

    run_dir: Path | None = None
    """Folder of the run to score; the results are written into it."""
    model: Path | None = None
    """Folder of a model without a run."""
    data: Path | None = None
    """Folder of the corpus; by default that of the run."""
    format: Literal["text", "label-text"] | None = None
    """Format of the corpus; by default that of the run, else text."""
    split: Literal["train", "valid", "test"] = "test"
    """What to score."""
    samples: int = 100
    """Samples K of the importance-weighted likelihood."""
    batch_size: int = 32
    """Sentences encoded at once."""
    max_sentences: int = 0
    """Score only the first sentences of the split; 0 is all."""
    block_size: int = 0
    """Sentences with more words are left out; 0 is the run's own limit, else 510."""
    reconstruction_study: bool = False
    """Reconstruction error of every checkpoint of the run instead (the injection ablation)."""
    generated: Path | None = None
    """File of generated sentences: BLEU-n against --references and self-BLEU-n instead."""
    references: Path | None = None
    """File of real sentences."""
    ngram: int = 5
    """n of BLEU-n and self-BLEU-n."""
    output_dir: Path | None = None
    """Where to write the results, if not to the run or model folder."""
    seed: int = 42
    """Seed of the posterior samples."""
    device: Device = "auto"
    """Where to compute."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the networks; the bound itself is always fp32."""

    def __post_init__(self) -> None:
        _require(
            self.run_dir is not None or self.model is not None or self.generated is not None,
            "give --run-dir (a run), --model (a model's folder) or --generated (a text file)",
        )
        for name in ("samples", "batch_size", "ngram"):
            value = getattr(self, name)
            option = name.replace("_", "-")
            _require(value >= 1, f"--{option} must be at least 1, got {value}")
        _require(
            self.generated is None or self.references is not None,
            "--generated needs --references, a file of real sentences",
        )
        _require(
            not self.reconstruction_study or self.run_dir is not None,
            "--reconstruction-study needs --run-dir, a run with checkpoints",
        )


@dataclass(frozen=True)
class DecodingOptions:
    """How a sentence is made from a latent vector."""

    strategy: Literal["greedy", "sample", "beam"] = "greedy"
    """greedy takes the best token, sample draws one, beam keeps --decoding.num-beams hypotheses."""
    temperature: float = 1.0
    """Divides the logits before sampling."""
    top_k: int = 0
    """Sample among the k best tokens; 0 is off."""
    top_p: float = 1.0
    """Sample among the best tokens that hold this share of the probability; 1 is off."""
    num_beams: int = 4
    """Hypotheses of beam search."""
    length_penalty: float = 1.0
    """Exponent of the length that divides a hypothesis's score."""
    max_new_tokens: int = 100
    """Longest sentence in tokens."""

    def __post_init__(self) -> None:
        _require(
            self.temperature > 0,
            f"--decoding.temperature must be positive, got {self.temperature}; use "
            "--decoding.strategy greedy for the limit 0",
        )
        _require(self.top_k >= 0, f"--decoding.top-k must not be negative, got {self.top_k}")
        _require(0 <= self.top_p <= 1, f"--decoding.top-p must be in [0, 1], got {self.top_p}")
        for name in ("num_beams", "max_new_tokens"):
            value = getattr(self, name)
            option = name.replace("_", "-")
            _require(value >= 1, f"--decoding.{option} must be at least 1, got {value}")


@dataclass(frozen=True)
class GenerateConfig:
    """What the four kinds of generation share."""

    model: Path = Path("runs/demo/model")
    """Folder of a model, or of a run."""
    decoding: DecodingOptions = field(default_factory=DecodingOptions)
    output: Path | None = None
    """File for the result; standard output if absent."""
    unique: bool = False
    """Leave out sentences that were made before."""
    batch_size: int = 64
    """Sentences encoded or decoded at once."""
    seed: int = 42
    """Seed of sampling."""
    device: Device = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        _require(self.batch_size >= 1, f"--batch-size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True)
class ReconstructConfig(GenerateConfig):
    """Encode sentences and decode them again: the sentence, then what came back."""

    texts: tuple[str, ...] = ()
    """Sentences."""
    file: Path | None = None
    """File of sentences; - is standard input."""
    limit: int = 0
    """Only the first sentences; 0 is all."""


@dataclass(frozen=True)
class SampleConfig(GenerateConfig):
    """Decode draws from the prior."""

    count: int = 10
    """Sentences to make."""
    latent_scale: float = 1.0
    """Standard deviation of z."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.count >= 1, f"--count must be at least 1, got {self.count}")


@dataclass(frozen=True)
class InterpolateConfig(GenerateConfig):
    """Sentences on the line between two."""

    texts: tuple[str, ...] = ()
    """Two sentences."""
    file: Path | None = None
    """File of pairs, `source TAB target` a line; - is standard input."""
    steps: int = 10
    """Steps from the source to the target."""
    points: Literal["dataset", "interactive"] = "dataset"
    """dataset makes steps + 1 sentences, interactive steps + 2, as the authors' two modes do."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.steps >= 1, f"--steps must be at least 1, got {self.steps}")


@dataclass(frozen=True)
class AnalogyConfig(GenerateConfig):
    """source is to target as the input is to the answer: z = z_input + degree (z_t - z_s)."""

    source: str = ""
    """Sentence A."""
    target: str = ""
    """Sentence B."""
    texts: tuple[str, ...] = ()
    """Sentences C to transfer."""
    file: Path | None = None
    """File of sentences C, or of `source TAB target TAB input` lines; - is standard input."""
    degree: float = 1.0
    """How far to go; 0 stays."""


def require(condition: bool, message: str) -> None:
    """Raise ``ValueError`` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ValueError(message)


def require_positive(options: object, *names: str, prefix: str = "") -> None:
    """Refuse numbers below 1 in the fields ``names``; ``prefix`` is the option group's name."""
    for name in names:
        value = getattr(options, name)
        option = prefix + name.replace("_", "-")
        require(value >= 1, f"--{option} must be at least 1, got {value}")


@dataclass(frozen=True)
class LoopOptions:
    """How long and where to train; running the same command again continues."""

    run_dir: Path = Path("runs/task")
    """Folder of the run: config, checkpoints, logs and the final model."""
    epochs: float = 1.0
    """Passes over the training examples, unless --max-steps is given."""
    max_steps: int = 0
    """Optimizer steps; 0 leaves the length to --epochs."""
    log_every: int = 100
    """Steps between two log lines."""
    save_every: int = 1000
    """Steps between two checkpoints; there is one at the end in any case."""
    keep: int = 2
    """Newest checkpoints that stay on disk."""
    seed: int = 42
    """Seed of python, numpy and torch; rank r uses seed + r."""
    device: Device = "auto"
    """Where to train."""
    precision: Precision = "fp32"
    """Arithmetic of the forward pass."""

    def __post_init__(self) -> None:
        require(self.epochs > 0, f"--epochs must be positive, got {self.epochs}")
        require(self.max_steps >= 0, f"--max-steps must not be negative, got {self.max_steps}")
        require_positive(self, "log_every", "save_every", "keep")

    def steps(self, batches_per_epoch: int) -> int:
        """Optimizer steps of the run."""
        return self.max_steps or max(1, int(self.epochs * batches_per_epoch))


def rows_per_process(batch_size: int, world_size: int) -> int:
    """Rows of one process in a batch of ``batch_size``; ``ValueError`` where that is uneven."""
    require(
        batch_size % world_size == 0,
        f"--data.batch-size {batch_size} must be a multiple of the {world_size} processes",
    )
    return batch_size // world_size
