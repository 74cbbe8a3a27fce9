"""Options that the commands share; those of one task stand in its file.

The dataclasses are the command line: a field is an option, its docstring the help text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .models.decoder import Injection
from .objectives import LearningRateSchedule
from .runtime.logs import ReportTo
from .runtime.options import ADDED, at_least, option, positive, require
from .runtime.precision import Precision

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class ModelOptions:
    """The sentence VAE, encoder -> z -> decoder, and where its weights come from."""

    latent_dim: int = 32
    """Size of the sentence vector z."""
    inject: Injection = "both"
    """How z enters the decoder (Sec. 3.1); none makes a plain language model."""
    init: tuple[Path, ...] = ()
    """Initial weights: one folder (a run or a model of ours, or a checkpoint of the authors) or two
    (an encoder such as BERT or ModernBERT and a causal decoder such as GPT-2 or Llama: folders, or
    names of a hub where the network allows it); none starts from scratch."""
    vocabulary: str = "8000"
    """Folder with bert/ and gpt2/ vocabularies, or, from scratch, the size of vocabularies to learn
    from the corpus."""
    layers: int = 12
    """From scratch: layers of the encoder and of the decoder."""
    hidden: int = 768
    """From scratch: width of both networks, a multiple of 64 (a head has 64 dimensions)."""
    dropout: float = 0.1
    """Dropout in embeddings, attention and residual branches of both networks."""
    pooling: Literal["default", "pooler", "cls", "mean"] = "default"
    """Of two folders: how the encoder makes a vector of a sentence: by its pooler, from the first
    token, or as the mean of all; default is what the network's folder says."""
    start: Literal["fresh", "data"] = "fresh"
    """Of two folders, in `optimus train`: fresh connectors are random; data takes the latent from
    the principal axes of the encoder's vectors of the first sentences, and the connectors from the
    decoder's states."""
    start_sentences: int = 2000
    """Sentences of --model.start data."""
    weights: Literal["pretrained", "random"] = "pretrained"
    """Of two folders: random takes their architectures and tokenizers alone, for comparison."""
    train_encoder: Literal["full", "frozen", "lora"] = "full"
    """What of the encoder `optimus train` trains, the other tasks all; lora needs the extra `lora`.
    Connectors always are trained."""
    train_decoder: Literal["full", "frozen", "lora"] = "full"
    """Likewise of the decoder."""
    lora_rank: int = 16
    """Rank of the matrices that LoRA adds to each linear map."""
    checkpointing: bool = False
    """In `optimus train`: keep no activations inside the layers and compute them again in the
    backward pass."""

    def __post_init__(self) -> None:
        at_least(self, "model", latent_dim=1, layers=1, start_sentences=2, lora_rank=1)
        defaults = {"pooling": "default", "start": "fresh", "weights": "pretrained"}
        for name, default in defaults.items():
            value = getattr(self, name)
            require(
                value == default or len(self.init) == 2,
                f"--model.{name} {value} belongs to a start from two folders, --model.init ENCODER "
                f"DECODER, got {len(self.init)}",
            )
        require(
            len(self.init) <= 2,
            f"--model.init takes one folder (an Optimus model) or two (encoder, decoder), got "
            f"{len(self.init)}",
        )
        require(
            self.hidden >= 64 and self.hidden % 64 == 0,
            f"--model.hidden must be a positive multiple of 64, got {self.hidden}",
        )
        require(0 <= self.dropout < 1, f"--model.dropout must be in [0, 1), got {self.dropout}")
        require(bool(self.vocabulary), "--model.vocabulary is empty: give a folder or a size")
        require(
            not self.vocabulary.isdigit() or int(self.vocabulary) >= 300,
            "--model.vocabulary must be a folder or a size of at least 300 (256 bytes and the "
            f"special tokens), got {self.vocabulary}",
        )


@dataclass(frozen=True)
class OptimizerOptions:
    """AdamW, linear warm-up, decay to zero; gradients are clipped to norm 1."""

    kind: Literal["torch", "fused"] = "torch"
    """fused takes apex's FusedAdam where its kernels are installed, else torch's fused AdamW."""
    lr: float = 5e-5
    """Learning rate after the warm-up."""
    new_lr: float = 0.0
    """That of what is not pre-trained (connectors, LoRA, a classifier's map, label vectors); 0 is
    the same one."""
    weight_decay: float = 0.0
    """Decay of the weights, biases and LayerNorm excepted."""
    warmup_steps: int = 0
    """Steps of the warm-up."""
    schedule: LearningRateSchedule = field(default="linear", metadata=ADDED)
    """Way of the learning rate after the warm-up: linear or cosine to zero, or constant."""
    accumulate: int = 1
    """Backward passes per optimizer step."""

    def __post_init__(self) -> None:
        positive(self, "optimizer", "lr")
        at_least(self, "optimizer", new_lr=0, weight_decay=0, warmup_steps=0, accumulate=1)


@dataclass(frozen=True)
class LoopOptions:
    """How long and where to train; running the same command again continues."""

    run_dir: Path = Path("runs/task")
    """Folder of the run: config, checkpoints, logs and the model."""
    epochs: float = 1.0
    """Passes over the training examples, unless --max-steps is given."""
    max_steps: int = 0
    """Optimizer steps; 0 leaves the length to --epochs."""
    log_every: int = 100
    """Steps between two log lines."""
    save_every: int = 1000
    """Steps between two checkpoints; there is one at the end in any case."""
    eval_every: int = 0
    """Steps between two evaluations on held-out data, each after a checkpoint; 0 is none in
    between."""
    patience: int = 0
    """End the run after so many evaluations without a better one; 0 runs to the last step."""
    keep: int = 2
    """Newest checkpoints that stay on disk."""
    report_to: ReportTo = field(default="none", metadata=ADDED)
    """Send the rows of metrics.jsonl to Weights & Biases too (an extra); wandb-offline keeps them
    in RUN/wandb for `wandb sync`."""
    seed: int = 42
    """Seed of python, numpy and torch; rank r uses seed + r."""
    device: Device = "auto"
    """Where to train."""
    deterministic: bool = False
    """Only kernels that give the same bits each time on a GPU, which are slower."""
    compile: bool = field(default=False, metadata=ADDED)
    """Compile both networks in the first steps, which takes minutes: faster on a GPU, with other
    last bits. For `optimus train`; the other tasks do not offer it."""
    precision: Precision = "auto"
    """Arithmetic of the forward pass. auto: bf16 on a GPU that has it, else fp32; a continued run
    keeps what it began with."""

    def __post_init__(self) -> None:
        positive(self, "", "epochs")
        at_least(self, max_steps=0, log_every=1, save_every=1, keep=1, eval_every=0, patience=0)
        require(
            not self.patience or self.eval_every > 0,
            f"--patience {self.patience} needs --eval-every, the steps between two evaluations",
        )

    def steps(self, batches_per_epoch: int, accumulate: int = 1) -> int:
        """Optimizer steps of the run, of ``accumulate`` batches each."""
        return self.max_steps or max(1, int(self.epochs * batches_per_epoch / accumulate))


def unused_options(config: Any) -> dict[str, str]:
    """Options that a run of ``config`` would record and not use, with the reason and the cure.

    For `parse_preset`: a preset may hold such options, and on its command line they are refused.
    """
    model: ModelOptions = config.model
    unused: dict[str, str] = {}
    if model.init:
        folders = " ".join(map(str, model.init))
        reason = f"it is that of --model.init {folders}; drop one of the two"
        unused |= {"--model.layers": reason, "--model.hidden": reason}
        if model.vocabulary.isdigit():
            unused["--model.vocabulary"] = reason
    if model.start != "data":
        unused["--model.start-sentences"] = "it belongs to --model.start data; give that or drop it"
    if "lora" not in (model.train_encoder, model.train_decoder):
        unused["--model.lora-rank"] = (
            "nothing is trained by lora; give --model.train-encoder lora, or "
            "--model.train-decoder lora, or drop it"
        )
    if config.max_steps:
        unused["--epochs"] = (
            f"--max-steps {config.max_steps} says how long; drop it, or give --max-steps 0"
        )
    return unused


def rows_per_process(batch_size: int, world_size: int, accumulate: int = 1) -> int:
    """Rows of one backward pass of one process, in steps of ``batch_size`` rows in all.

    Raises:
        ValueError: the rows cannot be shared evenly.
    """
    parts = f"{world_size} processes"
    if accumulate > 1:
        parts += f" x {option('accumulate', 'optimizer')} {accumulate}"
    require(
        batch_size % (world_size * accumulate) == 0,
        f"--data.batch-size {batch_size} must be a multiple of the {parts}",
    )
    return batch_size // (world_size * accumulate)
