"""The sentence VAE and the GPT-2 baseline (Sec. 4.1, 5): options, presets, training.

``optimus train PRESET`` pre-trains, fine-tunes or trains from scratch; ``PRESETS`` has one entry
for each experiment of the paper. What the models are scored by stands in `language_scores`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .. import loop
from ..config import (
    LoopOptions,
    ModelOptions,
    OptimizerOptions,
    rows_per_process,
    unused_options,
)
from ..data.text import (
    PART_LINES,
    Batches,
    Padding,
    Sentences,
    TextOptions,
    corrupt,
    evaluation_batches,
    load_corpus,
    read_sentences,
    text_of,
    way_to,
)
from ..data.tokenizers import Tokenizers
from ..metrics.latent import (
    active_units,
)
from ..models.pretrained import without_lora
from ..models.vae import OptimusModel
from ..objectives import Objective, beta_schedule
from ..old_runs import upgrade
from ..runtime.command import parse_preset
from ..runtime.distributed import World, gather_objects, wrap
from ..runtime.options import ADDED, at_least, option, require
from ..runtime.precision import MixedPrecision
from ..runtime.run_folder import RunFolder
from ..runtime.transfer import ReadAhead
from .pretrained import adapt, check_lengths, start_from_sentences
from .training import (
    FIXED,
    AdamWTraining,
    Known,
    build_model,
    build_optimizer,
    build_tokenizers,
    exporting,
)

logger = logging.getLogger(__name__)
COLLAPSED = 0.05  # nats; below this KL the latent says nothing about the sentence


@dataclass(frozen=True)
class ObjectiveOptions:
    """The loss of a sentence: -log p(x|z) + beta KL, with free bits and a cyclical beta."""

    kind: Literal[
        "free-bits",
        "free-bits-floor",
        "deterministic-connect",
        "autoencoder",
        "mmd",
        "beta-tc",
        "language-model",
    ] = "free-bits"
    """free-bits masks dimensions at or below the threshold as the authors do, free-bits-floor is
    max(KL, threshold); deterministic-connect samples with unit variance; autoencoder uses z = mean;
    mmd is InfoVAE and beta-tc beta-TC-VAE, without free bits; language-model has no latent."""
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
    alpha: float = field(default=1.0, metadata=ADDED)
    """mmd: share of the KL that is left out; 1 leaves the discrepancy alone."""
    mmd_weight: float = field(default=100.0, metadata=ADDED)
    """mmd: weight lambda of the discrepancy (0 to 2) between all latents and the prior, which is to
    count beside the nats of a sentence. 100 is a guess of ours, not tuned and not of the paper."""
    tc_weight: float = field(default=2.0, metadata=ADDED)
    """beta-tc: weight of the total correlation; 1 is the plain KL, estimated."""

    def __post_init__(self) -> None:
        at_least(self, "objective", beta=0, free_bits=0, cycles=1, tc_weight=0)
        require(
            math.isfinite(self.alpha + self.mmd_weight) and self.alpha + self.mmd_weight >= 1,
            f"--objective.mmd-weight must be finite and at least 1 - --objective.alpha "
            f"{self.alpha}, got {self.mmd_weight}",
        )
        for name, right, allowed in (
            ("ratio-zero", 0 <= self.ratio_zero <= 1, "[0, 1]"),
            ("ratio-increase", 0 < self.ratio_increase <= 1, "(0, 1]"),
            ("mask-probability", 0 <= self.mask_probability < 1, "[0, 1)"),
        ):
            value = getattr(self, name.replace("-", "_"))
            require(right, f"--objective.{name} must be in {allowed}, got {value}")


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
        require(
            1 <= self.block_size <= 510,
            f"--data.block-size must be in 1..510 (BERT has 512 positions), got {self.block_size}",
        )
        at_least(self, "data", batch_size=1)


@dataclass(frozen=True)
class TrainConfig(LoopOptions):
    """Train a sentence VAE; running the same command again continues."""

    run_dir: Path = Path("runs/train")
    """Folder of the run: config, checkpoints, logs and the model."""
    model: ModelOptions = field(default_factory=ModelOptions)
    objective: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    data: DataOptions = field(default_factory=DataOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    sharding: Literal["none", "fsdp"] = field(default="none", metadata=ADDED)
    """Where the networks do not fit one device: fsdp shares weights, gradients and optimizer states
    out among the processes of torchrun, which has another form of checkpoint."""
    compat: tuple[Literal["adamw", "order", "horizon"], ...] = ()
    """What to do as the authors' code does: adamw (their update rule and parameter groups), order
    (file order, longest first, incomplete batches dropped), horizon (pre-training: the learning
    rate decays over the first shard alone)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            (self.objective.kind == "language-model") == (self.model.inject == "none"),
            "--objective.kind language-model and --model.inject none belong together, got "
            f"{self.objective.kind} and {self.model.inject}",
        )
        require(
            self.model.inject != "none" or self.model.train_decoder != "frozen",
            "--model.train-decoder frozen leaves nothing to train: with --model.inject none there "
            "are no connectors",
        )
        if self.objective.kind in ("mmd", "beta-tc"):
            require(
                self.optimizer.accumulate == 1,
                f"--optimizer.accumulate must be 1 with --objective.kind {self.objective.kind}: "
                "its term is a statistic of one batch",
            )
            require(
                self.data.batch_size > 1,
                f"--data.batch-size must be at least 2 with --objective.kind {self.objective.kind}",
            )
        require(
            not (self.compile and self.model.checkpointing),
            "--compile and --model.checkpointing exclude each other; give one of them",
        )
        if self.sharding == "fsdp":
            self._check_sharding()
        rows_per_process(self.data.batch_size, 1, self.optimizer.accumulate)

    def _check_sharding(self) -> None:
        for wrong, cure in (
            (self.compile, "leave --compile out"),
            ("adamw" in self.compat, "leave adamw out of --compat"),
            (self.optimizer.kind == "fused", "give --optimizer.kind torch, fused on a GPU too"),
            (self.precision in ("fp16", "apex-O1", "apex-O2"), "give --precision bf16 or fp32"),
        ):
            require(not wrong, f"--sharding fsdp does not go with that: {cure}")


LAMBDAS = ("0.05", "0.10", "0.25", "0.50", "1.00")
WIKIPEDIA_STEPS = 508_523  # one epoch of 65.1 M sentences at batch 128
PUBLIC_WEIGHTS = (Path("weights/bert-base-cased"), Path("weights/gpt2"))


def _wikipedia() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """Pre-training (Sec. 4.1): one epoch, ten beta cycles, lambda 1."""
    for dim in (32, 768):
        name = f"pretrain-wikipedia-{dim}"
        config = TrainConfig(
            run_dir=Path("runs", f"pretrain/wikipedia_{dim}"),
            model=ModelOptions(latent_dim=dim, init=PUBLIC_WEIGHTS),
            objective=ObjectiveOptions(free_bits=1.0, cycles=10),
            data=DataOptions(Path("data/wikipedia"), block_size=256, batch_size=128),
            max_steps=WIKIPEDIA_STEPS,
            save_every=20_000,
        )
        yield name, (f"Sec. 4.1, Wikipedia, {dim} dimensions", config)


# corpus -> format, longest sentence in words, sentences per step, epochs
CORPORA: dict[str, tuple[Literal["text", "label-text"], int, int, float]] = {
    "penn": ("text", 100, 16, 1.0),
    "yelp": ("label-text", 300, 16, 1.0),
    "yahoo": ("text", 510, 16, 1.0),
    "snli": ("text", 100, 40, 20.0),
}


REAL_CORPORA = {
    "tatoeba": ("0.05", "0.50"),
    "snli-sentences": ("0.05", "0.50"),
    "penn": ("0.05",),
    "yelp": ("0.05", "0.50"),
}
"""Of the presets with real weights: lambdas by corpus."""
LONG_SENTENCES = ("penn", "yelp")
"""Of them, those trained in bf16: a CPU with such instructions takes two thirds of the time."""
_RISING = ("beta", "cycles", "ratio_zero", "ratio_increase")
USED_TERMS = {
    "free-bits": (*_RISING, "free_bits"),
    "free-bits-floor": (*_RISING, "free_bits"),
    "deterministic-connect": _RISING,
    "mmd": (*_RISING, "alpha", "mmd_weight"),
    "beta-tc": (*_RISING, "tc_weight"),
    "autoencoder": (),
    "language-model": (),
}
"""By ``--objective.kind``: what it uses of the terms that not all use."""


def _language_modeling() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """Fine-tuning of the Wikipedia model on four corpora for five lambdas (Table 1)."""
    for corpus, (form, block_size, batch_size, epochs) in CORPORA.items():
        for free_bits in LAMBDAS:
            name = f"lm-{corpus}-{free_bits}"
            config = TrainConfig(
                run_dir=Path("runs", f"language_modeling/{corpus}_{free_bits}"),
                model=ModelOptions(init=(Path("runs/pretrain/wikipedia_32/model"),)),
                objective=ObjectiveOptions(free_bits=float(free_bits)),
                data=DataOptions(Path("data", corpus), form, block_size, batch_size),
                epochs=epochs,
                save_every=2000,
            )
            yield name, (f"Table 1, {corpus}, lambda {free_bits}", config)


def _baselines() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """GPT-2 fine-tuned as a language model (Table 1, GPT-2 row)."""
    batches = {"penn": 16, "yelp": 24, "yahoo": 32, "snli": 16}
    for corpus, (form, block_size, _, epochs) in CORPORA.items():
        name = f"gpt2-{corpus}"
        config = TrainConfig(
            run_dir=Path("runs", f"gpt2_baseline/{corpus}"),
            model=ModelOptions(inject="none", init=PUBLIC_WEIGHTS),
            objective=ObjectiveOptions(kind="language-model"),
            data=DataOptions(Path("data", corpus), form, block_size, batches[corpus]),
            epochs=epochs,
            save_every=2000,
        )
        yield name, (f"Table 1, {corpus}, GPT-2 without a latent", config)


def _manipulation() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """The 768-dimensional SNLI models of Sec. 5.2 (interpolation, analogy)."""
    for beta in ("0.0", "0.5", "1.0"):
        name = f"manipulate-snli-768-{beta}"
        config = TrainConfig(
            run_dir=Path("runs", f"latent_manipulation/snli_768_{beta}"),
            model=ModelOptions(latent_dim=768, init=(Path("runs/pretrain/wikipedia_768/model"),)),
            objective=ObjectiveOptions(beta=float(beta), free_bits=5.0, length_weighted=True),
            data=DataOptions(Path("data/snli"), batch_size=16),
            max_steps=31_250,
            save_every=2000,
        )
        yield name, (f"Sec. 5.2, SNLI, 768 dimensions, beta {beta}", config)


def _injection() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """Memory against embedding against both (the paper's ablation figure), beta 0."""
    for inject in ("memory", "embedding", "both"):
        name = f"inject-penn-{inject}"
        config = TrainConfig(
            run_dir=Path("runs", f"injection_ablation/penn_{inject}"),
            model=ModelOptions(inject=inject, init=PUBLIC_WEIGHTS),
            objective=ObjectiveOptions(beta=0.0),
            data=DataOptions(Path("data/penn"), batch_size=10),
            max_steps=13_145,
            save_every=2000,
            keep=16,
        )
        yield name, (f"Injection ablation, {inject}", config)


def _from_scratch() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """Small models for a CPU (small-*) and mid-size ones for one GPU (mid-*), no downloads."""
    epochs = {"penn": (1.5, 20.0), "tatoeba": (8.0, 60.0)}
    for corpus, (small_epochs, mid_epochs) in epochs.items():
        for free_bits in ("0.00", "0.50"):
            small = TrainConfig(
                run_dir=Path("runs", f"from_scratch/small_{corpus}_{free_bits}"),
                model=ModelOptions(vocabulary="8000", layers=2, hidden=256),
                objective=ObjectiveOptions(
                    free_bits=float(free_bits), ratio_zero=0.25, ratio_increase=0.25
                ),
                data=DataOptions(Path("data", corpus), block_size=60, batch_size=32),
                optimizer=OptimizerOptions(lr=1e-3, warmup_steps=200),
                epochs=small_epochs,
                save_every=500,
            )
            mid = replace(
                small,
                run_dir=Path("runs", f"from_scratch/mid_{corpus}_{free_bits}"),
                model=ModelOptions(vocabulary="8000"),
                data=replace(small.data, batch_size=64),
                optimizer=OptimizerOptions("fused", lr=2e-4, warmup_steps=500),
                epochs=mid_epochs,
                precision="bf16",
            )
            yield f"small-{corpus}-{free_bits}", (f"{corpus} from scratch, CPU", small)
            yield f"mid-{corpus}-{free_bits}", (f"{corpus} from scratch, 12 layers, GPU", mid)


def _real_weights() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """MiniLM and SmolLM2 (135 M) on two CPU cores: the shape of Table 1, and what the start does.

    The weights are under licences of their own; any other two folders do with ``--model.init``.
    """
    real = TrainConfig(
        model=ModelOptions(
            init=(Path("weights/minilm-l6"), Path("weights/smollm2-135m")),
            pooling="mean",
            start="data",
            dropout=0.0,
        ),
        objective=ObjectiveOptions(ratio_zero=0.1, ratio_increase=0.4),
        data=DataOptions(Path("data/tatoeba"), block_size=40, batch_size=16),
        optimizer=OptimizerOptions("fused", lr=1e-4, new_lr=1e-3, warmup_steps=20),
        max_steps=300,
        log_every=10,
        save_every=300,
        keep=1,
    )
    plain = replace(
        real,
        model=replace(real.model, inject="none", start="fresh"),
        objective=ObjectiveOptions(kind="language-model"),
        optimizer=replace(real.optimizer, new_lr=0.0),
    )

    def row(name: str, about: str, config: TrainConfig) -> tuple[str, tuple[str, TrainConfig]]:
        place = Path("runs/real_weights", name.replace("-", "_"))
        return f"real-{name}", (f"real weights, {about}", replace(config, run_dir=place))

    for corpus, lambdas in REAL_CORPORA.items():
        form, block_size = ("label-text", 40) if corpus == "yelp" else ("text", 60)
        data = replace(real.data, folder=Path("data", corpus), format=form, block_size=block_size)  # type: ignore[arg-type]
        own = {"data": data, "precision": "bf16" if corpus in LONG_SENTENCES else "fp32"}
        yield row(f"{corpus}-lm", f"{corpus}, the decoder alone", replace(plain, **own))  # type: ignore[arg-type]
        for free_bits in lambdas:
            objective = replace(real.objective, free_bits=float(free_bits))
            config = replace(real, objective=objective, **own)  # type: ignore[arg-type]
            yield row(f"{corpus}-{free_bits}", f"{corpus}, lambda {free_bits}", config)
    changes: dict[str, tuple[str, dict[str, object]]] = {
        "fresh": ("random connectors", {"start": "fresh"}),
        "random": ("random networks", {"weights": "random", "start": "fresh"}),
        "frozen": ("the decoder frozen", {"train_decoder": "frozen"}),
        "lora": ("LoRA in both networks", {"train_decoder": "lora", "train_encoder": "lora"}),
    }
    for name, (about, change) in changes.items():
        config = replace(real, model=replace(real.model, **change))  # type: ignore[arg-type]
        yield row(f"tatoeba-0.50-{name}", f"Tatoeba, lambda 0.50, {about}", config)
    random = replace(
        real,
        model=replace(real.model, weights="random", start="fresh"),
        objective=replace(real.objective, free_bits=0.05),
    )
    yield row("tatoeba-0.05-random", "Tatoeba, lambda 0.05, random networks", random)
    one_rate = replace(real, optimizer=replace(real.optimizer, new_lr=0.0))
    yield row("tatoeba-0.50-one-lr", "Tatoeba, lambda 0.50, one learning rate", one_rate)
    pretraining = replace(
        real,
        data=replace(real.data, folder=Path("data/unlabelled")),
        max_steps=900,
        save_every=100,
        precision="bf16",
    )
    yield row("pretrain", "latent pre-training on unlabelled text", pretraining)
    tuned = ModelOptions(init=(Path("runs/real_weights/pretrain/model"),), dropout=0.0)
    yield row("tatoeba-0.50-pretrained", "Tatoeba after the latent pre-training, lambda 0.50",
              replace(real, model=tuned))  # fmt: skip


def _own() -> Iterator[tuple[str, tuple[str, TrainConfig]]]:
    """The VAE that sees GLUE's texts before its labels, the quick check, and the demo."""
    demo = TrainConfig(
        run_dir=Path("runs/demo"),
        model=ModelOptions(latent_dim=32, vocabulary="400", layers=1, hidden=128, dropout=0.0),
        objective=ObjectiveOptions(free_bits=1.0, ratio_zero=0.5, ratio_increase=0.25),
        data=DataOptions(Path("data/toy"), block_size=30, batch_size=32),
        optimizer=OptimizerOptions(lr=5e-4, warmup_steps=100),
        max_steps=3000,
        log_every=250,
        save_every=1500,
    )
    smoke = replace(
        demo,
        run_dir=Path("runs/smoke"),
        model=replace(demo.model, latent_dim=8, hidden=64),
        data=replace(demo.data, batch_size=8),
        max_steps=6,
        log_every=2,
        save_every=3,
        eval_every=3,
    )
    glue = TrainConfig(
        run_dir=Path("runs/low_resource/glue_text"),
        model=ModelOptions(init=(Path("runs/pretrain/wikipedia_32/model"),)),
        objective=ObjectiveOptions(free_bits=1.0),
        data=DataOptions(Path("data/glue-text"), block_size=256),
        save_every=1000,
    )
    yield "glue-text", ("Sec. 4.4, the sentence VAE on GLUE's texts", glue)
    yield "smoke", ("a few steps on the toy corpus", smoke)
    yield "demo", ("the toy corpus of `optimus demo`", demo)


PRESETS: dict[str, tuple[str, TrainConfig]] = {
    name: entry
    for rows in (
        _wikipedia,
        _language_modeling,
        _baselines,
        _manipulation,
        _injection,
        _from_scratch,
        _real_weights,
        _own,
    )
    for name, entry in rows()
}


def train_command(argv: Sequence[str]) -> None:
    """Run ``optimus train lm-snli-0.50 --data.batch-size 80``."""
    train(parse_preset(PRESETS, argv, "optimus train", unused))


def unused(config: TrainConfig) -> dict[str, str]:
    """`unused_options`, and those that this objective or ``--compat`` leaves without a use."""
    found, kind = unused_options(config), config.objective.kind
    reason = f"--objective.kind {kind} has no such term; drop it"
    for name in {name for names in USED_TERMS.values() for name in names} - {*USED_TERMS[kind]}:
        found[option(name, "objective")] = reason
    if config.model.inject == "none":
        reason = "a language model has neither encoder nor latent; drop it"
        names = ("latent_dim", "pooling", "train_encoder")
        found |= {option(name, "model"): reason for name in names}
        found["--objective.mask-probability"] = reason
        if config.model.train_decoder != "lora":
            found["--optimizer.new-lr"] = "a language model has no new weights; drop it"
    if "adamw" in config.compat:
        found["--optimizer.kind"] = "--compat adamw has an update rule of its own; drop one of them"
    if "horizon" in config.compat:  # the learning rate decays over so many epochs
        found.pop("--epochs", None)
    return found


def train(config: TrainConfig) -> OptimusModel:
    """Run ``config`` to its last step, continuing from the newest checkpoint in ``run_dir``.

    Leaves ``checkpoints/``, logs, ``model/`` (weights and vocabularies) and, where the validation
    loss was lowest, ``best/`` in ``run_dir``. Errors are those of ``loop.train``.
    """
    return loop.train(TASK, config).model  # type: ignore[attr-defined]


class LanguageModelTraining(AdamWTraining):
    """A sentence VAE, or a GPT-2 without a latent, and its corpus."""

    def __init__(self, config: TrainConfig, world: World, folder: RunFolder) -> None:
        tokenizers = build_tokenizers(config.model, lambda: _train_lines(config), folder)
        require(
            config.objective.mask_probability == 0 or tokenizers.mask_id >= 0,
            "--objective.mask-probability needs a mask token, and the encoder's tokenizer has none",
        )
        shards = _load(config, "train", tokenizers)
        self.batches = build_batches(config, shards, tokenizers, world)
        total_steps = config.steps(self.batches.batches_per_epoch, config.optimizer.accumulate)
        size = sum(map(len, shards))
        self.betas, self.objective = build_schedule(config.objective, total_steps, size)
        self.held_out: Sentences | None = None
        if (valid := text_of(config.data.folder, "valid")).exists():
            (self.held_out,) = _load(config, "valid", tokenizers)
            require(len(self.held_out) > 1, f"{valid} has one sentence: give two or more, or none")
        elif config.eval_every:
            require(
                config.patience == 0, f"--patience {config.patience} needs sentences in {valid}"
            )
            logger.warning("--eval-every has nothing to score: there is no %s", valid)
        model = build_model(config.model, tokenizers, folder)
        self.shared_out = config.sharding == "fsdp"
        require(
            not self.shared_out or world.size > 1,
            "--sharding fsdp needs several processes; start the command by torchrun",
        )
        if not self.shared_out:  # else only this process's share goes there
            model.to(world.device)  # type: ignore[arg-type]
        check_lengths(model, [*shards, *([self.held_out] if self.held_out else [])])
        if config.model.start == "data" and not folder.started:
            start_from_sentences(model, shards[0], config.model.start_sentences)
        adapt(model, config.model)
        if self.shared_out:
            from ..models.sharding import SharedState, shard  # two seconds of imports

            shard(model, world)
        optimizer = build_optimizer(config.optimizer, model, "adamw" in config.compat)
        amp = MixedPrecision(config.precision, world.device)
        self.model, optimizer = amp.prepare(model, optimizer)
        super().__init__(
            config,
            world,
            amp,
            optimizer,
            names=("loss", "rec", "kl", "full_kl"),
            total_steps=total_steps,
            decay_steps=_decay_steps(config, shards),
        )
        self.tokenizers, self.beta, self.regions = tokenizers, 0.0, self.model.regions
        self.network = self.model if self.shared_out else wrap(self.model, world)
        self.intervals = replace(self.intervals, evaluate_at_end=True)
        self.parts = {"model": self.model, "optimizer": optimizer, "amp": amp}
        if self.shared_out:
            self.parts = {"shared": SharedState(self.model, optimizer), "amp": amp}
        self.ahead = ReadAhead(TrainingBatches(self.batches, tokenizers), world.device)
        self.parts |= {"data": self.ahead, "means": self.means}

    def step(self) -> None:
        self.begin_step()
        self.beta = self.betas[self.progress.step]
        accumulate = self.config.optimizer.accumulate
        for micro in range(accumulate):
            batch = self._next_batch()
            with _synchronise(self.network, last=micro == accumulate - 1):
                with self.amp.autocast():
                    losses = self.network(
                        batch.encoder_ids,
                        batch.decoder_ids,
                        objective=self.objective,
                        beta=self.beta,
                        targets=batch.targets,
                        padded=batch.padded,
                    )
                self.amp.backward(losses.total.mean() / accumulate, self.optimizer)
            self.means.add(
                {
                    "loss": losses.total,
                    "rec": losses.reconstruction,
                    "kl": losses.kl,
                    "full_kl": losses.full_kl,
                }
            )
        self.end_step(self.model.parameters())

    def scalars(self) -> Mapping[str, float | Tensor | None]:
        means = self.means.take()
        if self.beta > 0 and means["full_kl"] < COLLAPSED and self.world.is_main:
            logger.warning(
                "step %d: the KL is %.3g nats, the posterior has collapsed onto the prior; "
                "raise --objective.free-bits or --objective.ratio-zero",
                self.progress.step,
                means["full_kl"],
            )
        return {"lr": self.lr, "beta": self.beta, "gradient_norm": self.norm, **means}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Scores on the validation split with one posterior sample a sentence, KL in full.

        ``eval_loss``, which decides what is best, is reconstruction + KL; where training has no KL
        (an auto-encoder, or beta 0) it is the reconstruction alone.
        """
        if self.held_out is None:
            return {}
        config, world, model = self.config, self.world, self.model
        padding = Padding(self.tokenizers.pad_id, self.tokenizers.encoder_pad_id)
        generator = torch.Generator().manual_seed(config.seed)
        size = max(1, config.data.batch_size // config.optimizer.accumulate // world.size)
        scored: list[tuple[Tensor, Tensor | None]] = []  # empty where ranks outnumber batches
        # z is drawn as in training; mmd and beta-tc, statistics of a batch, are held to the bound
        kind = self.objective.kind
        objective = Objective(kind) if kind in ("autoencoder", "deterministic-connect") else None
        model.eval()
        batches = list(evaluation_batches(self.held_out, size, padding))
        surplus = batches[:1] * (-len(batches) % world.size)  # all ranks run as many
        for number, batch in enumerate([*batches, *surplus]):
            eps = torch.randn(len(batch.index), 1, config.model.latent_dim, generator=generator)
            if number % world.size != world.rank:
                continue
            batch = batch.to(world.device)
            noise = None if model.encoder is None else eps.to(world.device)
            with self.amp.autocast():
                ids = batch.encoder_ids, batch.decoder_ids
                losses = model(*ids, objective=objective, eps=noise)
            if number >= len(batches):
                continue
            terms = torch.stack([losses.reconstruction, losses.kl], dim=1).double().cpu()
            scored.append((terms, losses.mean.float().cpu() if model.encoder is not None else None))
        model.train()
        gathered = [batch for rank in gather_objects(scored) for batch in rank]
        rec, kl = torch.cat([terms for terms, _ in gathered]).mean(dim=0).tolist()
        with_kl = kind != "autoencoder" and config.objective.beta > 0
        scores = {"eval_loss": rec + kl if with_kl else rec, "eval_rec": rec}
        if model.encoder is not None:
            units = active_units(torch.cat([mean for _, mean in gathered if mean is not None]))
            if units.count == 0 and world.is_main:
                logger.warning("posterior collapse: no latent dimension is active")
            scores |= {"eval_kl": kl, "eval_au": float(units.count)}
        return scores

    def goals(self, scores: Mapping[str, float]) -> dict[str, float]:
        return {"best": -scores["eval_loss"]} if scores else {}

    def gather(self) -> None:
        if self.shared_out:
            from ..models.sharding import whole_state

            self.weights = whole_state(self.model)
        else:
            self.weights = self.model.state_dict()

    def export(self, run_dir: Path, name: str) -> None:
        with exporting(run_dir / ("model" if name == "last" else name)) as folder:
            state = without_lora(self.weights, self.model)
            self.model.save_pretrained(folder, state_dict=state)
            self.tokenizers.save(folder / "tokenizers")

    def _next_batch(self) -> TrainingBatch:
        batch, probability = next(self.ahead), self.config.objective.mask_probability
        if not probability:
            return batch
        # A random token may be that of the padding, which the host does not see.
        return corrupt(batch, self.tokenizers, probability)._replace(padded=None)


class TrainingBatch(NamedTuple):
    """What a step needs of a batch, with what the host knows of it."""

    encoder_ids: Tensor  # (B, S)
    encoder_mask: Tensor  # (B, S) true at tokens
    decoder_ids: Tensor  # (B, T)
    targets: Tensor  # (N,) places of the decoder's targets in B (T - 1)
    padded: bool | None  # whether the encoder's side has padding, if known


class TrainingBatches:
    """``batches`` as `TrainingBatch`; their position is its own."""

    def __init__(self, batches: Batches, tokenizers: Tokenizers) -> None:
        self.batches, self.pad_id = batches, tokenizers.pad_id

    def __next__(self) -> TrainingBatch:
        batch = next(self.batches)
        ids = batch.encoder_ids, batch.encoder_mask, batch.decoder_ids
        return TrainingBatch(*ids, *Known.of(batch, self.pad_id))

    def state_dict(self) -> dict[str, Any]:
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches.load_state_dict(state)


TASK = loop.Task(
    kind="language-model",
    config=TrainConfig,
    open=LanguageModelTraining,
    fixed=(*FIXED, "data.format", "data.block_size", "compat", "sharding"),
    upgrade=upgrade,
    unused=unused,
)


def build_batches(
    config: TrainConfig, shards: list[Sentences], tokenizers: Tokenizers, world: World
) -> Batches:
    """Endless batches of one backward pass of this process."""
    return Batches(
        shards,
        rows_per_process(config.data.batch_size, world.size, config.optimizer.accumulate),
        Padding(tokenizers.pad_id, tokenizers.encoder_pad_id),
        seed=config.seed,
        order="original" if "order" in config.compat else "shuffled",
        rank=world.rank,
        world_size=world.size,
    )


def build_schedule(
    options: ObjectiveOptions, steps: int, dataset_size: int = 1
) -> tuple[list[float], Objective]:
    """Beta of every step and the loss; only a variational objective has a KL term."""
    if options.kind == "autoencoder":
        return [0.0] * steps, Objective("autoencoder", length_weighted=options.length_weighted)
    if options.kind == "language-model":
        return [0.0] * steps, Objective(length_weighted=options.length_weighted)
    betas = beta_schedule(
        steps,
        stop=options.beta,
        num_cycles=options.cycles,
        ratio_increase=options.ratio_increase,
        ratio_zero=options.ratio_zero,
    )
    named = options.kind in ("deterministic-connect", "mmd", "beta-tc")
    objective = Objective(
        kind=options.kind if named else "vae",  # type: ignore[arg-type]
        free_bits=options.free_bits,
        free_bits_rule="floor" if options.kind == "free-bits-floor" else "mask",
        length_weighted=options.length_weighted,
        alpha=options.alpha,
        mmd_weight=options.mmd_weight,
        tc_weight=options.tc_weight,
        dataset_size=dataset_size,
    )
    return betas, objective


def _load(config: TrainConfig, split: str, tokenizers: Tokenizers) -> list[Sentences]:
    options = TextOptions(max_words=config.data.block_size, format=config.data.format)
    return load_corpus(config.data.folder, split, tokenizers, options)


def _train_lines(config: TrainConfig) -> Iterator[str]:
    """Lines that vocabularies are learned from, the first million of the training text."""
    path = text_of(config.data.folder, "train")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {way_to(config.data.folder)}")
    return islice(read_sentences(path, config.data.format), PART_LINES)


def _decay_steps(config: TrainConfig, shards: list[Sentences]) -> int | None:
    """Step at which the learning rate is zero; None is the last one."""
    if "horizon" not in config.compat:
        return None
    return max(1, int(config.epochs * (len(shards[0]) // config.data.batch_size)))


def _synchronise(network: Any, *, last: bool) -> AbstractContextManager[object]:
    """Gradients travel between processes in the last backward pass of a step only."""
    if hasattr(network, "set_requires_gradient_sync"):  # where it is shared out
        network.set_requires_gradient_sync(last)
    if last or not isinstance(network, nn.parallel.DistributedDataParallel):
        return nullcontext()
    return network.no_sync()
