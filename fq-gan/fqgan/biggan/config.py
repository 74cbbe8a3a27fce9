"""All options of FQ-BigGAN, the names of its runs, and a preset for each row of the paper."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from ..augment.diffaugment import Policy, check_policies
from ..data.datasets import DataConfig, data_name
from ..quantizer import QuantizerOptions
from ..runs import BestMetric, TrainOptions
from ..runtime.files import json_text
from ..runtime.options import ADDED, at_least, positive
from ..scoring import ScoringOptions

Norm = Literal["bn", "mybn", "sync-bn", "in", "gn", "none"]
Init = Literal["ortho", "N02", "glorot", "none"]
LearningRate = Literal["constant", "linear", "cosine"]

RESOLUTIONS = (16, 32, 64, 128, 256, 512)
NUM_BLOCKS = {16: 3, 32: 4, 64: 5, 128: 6, 256: 7}  # of the discriminator; biggan-deep has one less


@dataclass(frozen=True)
class GeneratorConfig:
    """The generator."""

    channels: int = 64
    """Width multiplier of every layer."""
    latent_dim: int = 128
    """Size of z; hierarchical z rounds it down to equal chunks."""
    hierarchical: bool = False
    """Give every block its own chunk of z; needs --generator.shared-dim."""
    shared_dim: int = 0
    """Size of one class embedding for all blocks; 0: each norm layer has its own embedding."""
    attention: tuple[int, ...] = ()
    """Resolutions after whose block self-attention follows, such as 64."""
    norm: Norm = "bn"
    """Normalization in the blocks: bn, mybn (own statistics), sync-bn (all ranks), in, gn, none."""
    spectral_norm: bool = True
    """Normalize the weights by their largest singular value."""
    singular_vectors: int = 1
    """Singular vectors tracked per weight."""
    power_iterations: int = 1
    """Power iterations per forward pass."""
    depth: int = 2
    """Blocks per stage; biggan-deep only."""

    def __post_init__(self) -> None:
        at_least(
            self, "generator", channels=1, latent_dim=1, depth=1, singular_vectors=1,
            power_iterations=1,
        )  # fmt: skip
        if self.hierarchical and self.shared_dim < 1:
            raise ValueError(
                "--generator.hierarchical needs one class embedding for all blocks; "
                "set --generator.shared-dim, for instance to 128"
            )


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator."""

    channels: int = 64
    """Width multiplier of every layer."""
    wide: bool = True
    """Inner width of a block is that of its output (else of its input)."""
    attention: tuple[int, ...] = ()
    """Resolutions after whose block attention follows; at 32 pixels only 16 (at 16, 8): all."""
    singular_vectors: int = 1
    """Singular vectors tracked per weight."""
    power_iterations: int = 1
    """Power iterations per forward pass."""
    depth: int = 2
    """Blocks per stage; biggan-deep only."""

    def __post_init__(self) -> None:
        at_least(self, "discriminator", channels=1, depth=1, singular_vectors=1, power_iterations=1)


@dataclass(frozen=True)
class QuantizerConfig(QuantizerOptions):
    """Feature quantization in the discriminator."""

    layers: tuple[int, ...] = (2,)
    """Blocks of the discriminator that are quantized; none at all is plain BigGAN."""
    codebook_size: int = 1024
    """Codes per layer, best a sixteenth of the vectors of a call: images x height x width."""
    commitment_weight: float = 0.5
    """Factor of the commitment loss."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "quantizer", codebook_size=1)


@dataclass(frozen=True)
class BigganConfig:
    """Both networks."""

    kind: ClassVar[str] = "biggan"

    resolution: int = 32
    """Side of the images: 16, 32, 64, 128, 256, or 512 (generator only)."""
    num_classes: int = 10
    """Classes of the data set."""
    architecture: Literal["biggan", "biggan-deep"] = "biggan"
    """Residual blocks of two convolutions, or of four with bottlenecks."""
    init: Init = "ortho"
    """First weights: orthogonal, normal with deviation 0.02, Glorot, or PyTorch's own."""
    bn_eps: float = 1e-5
    """Added to variances; the generator's last norm layer always has 1e-5."""
    sn_eps: float = 1e-8
    """Smallest norm in the power iteration."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTIONS:
            raise ValueError(
                f"--data.resolution must be one of {RESOLUTIONS}, got {self.resolution}"
            )
        at_least(self, num_classes=1)
        last = NUM_BLOCKS.get(self.resolution, 8) - 1 - (self.architecture == "biggan-deep")
        wrong = [layer for layer in self.quantizer.layers if layer > last]
        if wrong:
            raise ValueError(
                f"--quantizer.layers has {wrong[0]}, but at resolution {self.resolution} "
                f"the blocks are 0 to {last}"
            )


@dataclass(frozen=True)
class StepConfig:
    """One training iteration: some steps of D, one step of G, one update of the average."""

    batch_size: int = 64
    """Images per forward pass, over all processes together."""
    generator_batch_size: int = 0
    """Images per forward pass in G's step; never fewer than the batch size."""
    num_d_steps: int = 2
    """Updates of D per iteration."""
    num_d_accumulations: int = 1
    """Batches per update of D."""
    num_g_accumulations: int = 1
    """Batches per update of G."""
    generator_lr: float = 5e-5
    """Adam's learning rate for G."""
    discriminator_lr: float = 2e-4
    """Adam's learning rate for D."""
    generator_betas: tuple[float, float] = (0.0, 0.999)
    """Adam's decay rates for G."""
    discriminator_betas: tuple[float, float] = (0.0, 0.999)
    """Adam's decay rates for D."""
    adam_eps: float = 1e-8
    """Adam's epsilon."""
    loss: Literal["hinge", "dcgan"] = "hinge"
    """Adversarial loss."""
    split_d: bool = False
    """Pass fake and real images through D one after the other instead of together."""
    generator_ortho: float = 0.0
    """Weight of the orthogonal regularization of G."""
    discriminator_ortho: float = 0.0
    """Weight of the orthogonal regularization of D."""
    ortho_variant: Literal["modified", "default"] = "modified"
    """Orthogonal regularization without (BigGAN's) or with the diagonal."""
    augment: tuple[Policy, ...] = field(default=(), metadata=ADDED)
    """DiffAugment: color, translation, cutout of all that D sees, for small data sets."""
    schedule: LearningRate = field(default="constant", metadata=ADDED)
    """How the learning rates fall from step.decay-start on to 0 at the end: linear, cosine."""
    decay_start: float = field(default=0.5, metadata=ADDED)
    """Share of the iterations with the full learning rate, where the schedule is not constant."""
    ema_decay: float = 0.9999
    """Decay of the average of G."""
    ema_start: int = 0
    """Iterations during which the average simply equals G."""

    def __post_init__(self) -> None:
        at_least(
            self, "step", batch_size=1, num_d_steps=1, num_d_accumulations=1, num_g_accumulations=1
        )
        positive(self, "step", "generator_lr", "discriminator_lr")
        check_policies(self.augment)
        if not 0 <= self.decay_start < 1:
            raise ValueError(f"--step.decay-start must be in [0, 1), got {self.decay_start}")

    def learning_rates(self, step: int, max_steps: int) -> tuple[float, float]:
        """Those of G and D in iteration number ``step`` (from 1) of ``max_steps``."""
        begin = self.decay_start * max_steps
        done = (step - 1 - begin) / (max_steps - begin)
        factor = 1.0
        if done > 0 and self.schedule != "constant":
            factor = 1 - done if self.schedule == "linear" else 0.5 + 0.5 * math.cos(math.pi * done)
        return self.generator_lr * factor, self.discriminator_lr * factor

    @property
    def images_per_step(self) -> int:
        """Real images that one iteration takes, per process."""
        return self.batch_size * self.num_d_steps * self.num_d_accumulations

    @property
    def fake_batch_size(self) -> int:
        return max(self.generator_batch_size, self.batch_size)


SampleStatistics = Literal["running", "batch", "standing"]


@dataclass(frozen=True)
class BigganTrain(TrainOptions):
    """Train BigGAN or FQ-BigGAN. Run the same command again to continue a run."""

    kind: ClassVar[str] = "biggan"

    naming: Literal["described", "authors", "hashed"] = "described"
    """Experiment's name: the authors' and a digest, the authors' alone, or a digest alone."""
    name_suffix: str = ""
    """Last word of the experiment's name."""
    max_steps: int = 97_500
    """Iterations; each has step.num-d-steps updates of D and one of G."""
    channels_last: bool = True

    architecture: Literal["biggan", "biggan-deep"] = "biggan"
    """biggan-deep has bottleneck blocks."""
    init: Literal["ortho", "N02", "glorot", "none"] = "ortho"
    """Initial weights of convolutions, linear layers and embeddings."""
    bn_eps: float = 1e-5
    """Of batch norm; the output layer of G keeps 1e-5."""
    sn_eps: float = 1e-8
    """Of spectral norm."""
    use_average: bool = True
    """Keep a moving average of G and sample from it."""
    sample_statistics: SampleStatistics = "running"
    """Norm statistics of samples: of training, of their own batch, or newly collected ones."""
    standing_batches: int = 16
    """Batches behind "standing" statistics."""

    log_every: int = 50
    """Iterations between two rows of metrics.jsonl."""
    save_every: int = 1000
    """Iterations between two checkpoints."""
    evaluate_every: int = 1000
    """Iterations between two scores; 0 scores never."""
    sample_every: int = 1000
    """Iterations between two sheets; 0 writes none."""
    spectra_every: int = 0
    """Iterations between two rows of singular values in spectra.jsonl; 0 writes none."""
    keep_best: int = 5
    """Weights of the best scores that stay, in best0, best1, ..."""
    best_metric: BestMetric = "fid"
    """What "best" means."""

    data: DataConfig = field(default_factory=DataConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    step: StepConfig = field(default_factory=StepConfig)
    scoring: ScoringOptions = field(default_factory=ScoringOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, max_steps=1, log_every=1, save_every=1, keep_best=1)
        at_least(self, evaluate_every=0, sample_every=0, spectra_every=0)
        if self.sample_statistics == "standing" and self.standing_batches < 1:
            raise ValueError(
                f"--standing-batches must be at least 1 for --sample-statistics standing, "
                f"got {self.standing_batches}"
            )
        self.networks(2)  # raises where the parts do not fit each other

    def unused(self) -> dict[str, str]:
        """Options of this family that the run would record and not use, see `unused_options`."""
        unused: dict[str, str] = {}
        if self.architecture == "biggan":
            reason = "blocks have a depth in biggan-deep alone; give --architecture biggan-deep"
            unused |= {"--generator.depth": reason, "--discriminator.depth": reason}
        else:
            unused["--discriminator.wide"] = (
                "blocks of --architecture biggan-deep have one width; drop one of them"
            )
        if self.naming == "hashed" and not self.run_dir:
            unused["--name-suffix"] = "--naming hashed has no such word; drop one of them"
        if 0 < self.step.generator_batch_size < self.step.batch_size:
            unused["--step.generator-batch-size"] = (
                f"G gets no fewer images than --step.batch-size {self.step.batch_size}; give more, "
                "or drop it"
            )
        if self.sample_statistics != "standing":
            reason = "it belongs to --sample-statistics standing; give that or drop it"
            unused["--standing-batches"] = reason
        if not self.use_average:
            reason = "--no-use-average leaves the average of G out; drop one of them"
            unused |= dict.fromkeys(("--step.ema-decay", "--step.ema-start"), reason)
        if not self.generator.spectral_norm:
            reason = "--generator.no-spectral-norm leaves the weights as they are; drop one of them"
            names = ("--generator.singular-vectors", "--generator.power-iterations")
            unused |= dict.fromkeys(names, reason)
        if self.step.schedule == "constant":
            unused["--step.decay-start"] = "--step.schedule constant never falls; give another"
        if not self.step.generator_ortho and not self.step.discriminator_ortho:
            reason = "--step.generator-ortho and --step.discriminator-ortho are 0; give one of them"
            unused["--step.ortho-variant"] = reason
        return unused

    def networks(self, num_classes: int) -> BigganConfig:
        """The networks of this run for a data set of ``num_classes`` classes."""
        return BigganConfig(
            resolution=self.data.resolution,
            num_classes=num_classes,
            architecture=self.architecture,
            init=self.init,
            bn_eps=self.bn_eps,
            sn_eps=self.sn_eps,
            generator=self.generator,
            discriminator=self.discriminator,
            quantizer=self.quantizer,
        )

    @property
    def folder(self) -> Path:
        """Where the run is."""
        return Path(self.run_dir) if self.run_dir else Path("runs") / experiment_name(self)


def share_step(step: StepConfig, processes: int) -> StepConfig:
    """``step`` for one of ``processes``, so that together they do what ``step`` says.

    Whole accumulations are dealt out where they divide evenly, which gives the same update as one
    process; otherwise every batch is split.

    Raises:
        ValueError: neither divides evenly.
    """
    replace = dataclasses.replace
    if step.num_d_accumulations % processes == 0 and step.num_g_accumulations % processes == 0:
        return replace(
            step,
            num_d_accumulations=step.num_d_accumulations // processes,
            num_g_accumulations=step.num_g_accumulations // processes,
        )
    if step.batch_size % processes == 0 and step.generator_batch_size % processes == 0:
        return replace(
            step,
            batch_size=step.batch_size // processes,
            generator_batch_size=step.generator_batch_size // processes,
        )
    raise ValueError(
        f"--step.batch-size {step.batch_size} with {step.num_d_accumulations} and "
        f"{step.num_g_accumulations} accumulations cannot be shared by {processes} processes; "
        "choose a multiple of the number of processes"
    )


# What does not change the result, or only how far the run goes, is no part of the digest.
OUTSIDE_DIGEST = {
    "run_dir", "naming", "name_suffix", "max_steps", "device", "log_every", "save_every",
    "evaluate_every", "sample_every", "spectra_every", "keep", "keep_best", "patience", "report_to",
    "scoring",
}  # fmt: skip


def experiment_name(config: BigganTrain) -> str:
    """The name that ``config.naming`` asks for."""
    if config.naming == "authors":
        return authors_name(config)
    if config.naming == "hashed":
        return digest_of(config)
    return f"{authors_name(config)}_{digest_of(config)}"


# Options that came after 0.1.0: at these values a run keeps the name that it had then.
NEUTRAL: dict[str, dict[str, Any]] = {
    "step": {"augment": (), "schedule": "constant", "decay_start": 0.5},
    "data": {"toy_variation": 1.0},
}


def digest_of(config: BigganTrain) -> str:
    """Eight hexadecimal digits of the options that matter, the same in every process."""
    plain = dataclasses.asdict(config)
    plain["data"].pop("workers")
    for group, values in NEUTRAL.items():
        for name, value in values.items():
            if plain[group][name] == value:
                del plain[group][name]
    if config.precision == "auto":  # the device decides, and does not give the run another name
        plain["precision"] = "fp32"
    kept = {name: value for name, value in plain.items() if name not in OUTSIDE_DIGEST}
    return hashlib.sha256(json_text(kept, sort_keys=True).encode()).hexdigest()[:8]


def authors_name(config: BigganTrain) -> str:
    """The authors' name. Options that it leaves out, such as learning rates, can collide."""
    step, quantizer = config.step, config.quantizer
    generator, discriminator = config.generator, config.discriminator
    exponent = round(math.log2(quantizer.codebook_size))
    parts = [
        "BigGAN",
        authors_dataset(config.data),
        "BigGANdeep" if config.architecture == "biggan-deep" else "",
        f"seed{config.seed}",
        f"Gch{generator.channels}",
        f"Dch{discriminator.channels}",
        f"bs{step.batch_size}",
        f"nDa{step.num_d_accumulations}" if step.num_d_accumulations > 1 else "",
        f"nGa{step.num_g_accumulations}" if step.num_g_accumulations > 1 else "",
        "Gattn" + "_".join(map(str, generator.attention)) if generator.attention else "",
        "Dattn" + "_".join(map(str, discriminator.attention)) if discriminator.attention else "",
    ]
    if quantizer.layers:
        parts += [
            f"Commit{quantizer.commitment_weight:3.2f}" if quantizer.commitment_weight else "",
            "Layer" + "".join(map(str, quantizer.layers)),
            f"Dicsz{exponent}",
            f"Dicdecay{quantizer.decay:3.2f}" if quantizer.decay else "",
        ]
    return "_".join(part for part in [*parts, config.name_suffix] if part)


def authors_dataset(data: DataConfig) -> str:
    """The authors' name of a data set, such as C10 or I64_hdf5."""
    if data.source in {"cifar10", "cifar100"}:
        return {"cifar10": "C10", "cifar100": "C100"}[data.source]
    stem = data_name(data)
    if stem.startswith("ILSVRC"):
        return f"I{data.resolution}_hdf5"
    if stem.endswith("Ext"):
        return f"I{data.resolution}ext" + ("_hdf5" if data.source == "hdf5" else "")
    return f"I{data.resolution}" if stem == "ImageNet" else f"{stem}{data.resolution}"


ALL_LAYERS = (0, 1, 2, 3)
CIFAR_STEP = StepConfig(
    batch_size=64, num_d_steps=4, generator_lr=2e-4, discriminator_lr=2e-4, ema_start=1000
)
C10 = BigganTrain(
    name_suffix="quant",
    max_steps=97_500,  # 500 epochs of 195 iterations
    init="N02",
    sample_statistics="batch",  # their script samples in training mode
    data=DataConfig("cifar10", "data/cifar"),
    quantizer=QuantizerConfig(
        layers=ALL_LAYERS, codebook_size=1024, commitment_weight=1.0, decay=0.8
    ),
    step=CIFAR_STEP,
)
C100 = replace(
    C10,
    evaluate_every=2000,
    data=DataConfig("cifar100", "data/cifar"),
    quantizer=QuantizerConfig(
        layers=ALL_LAYERS, codebook_size=64, commitment_weight=10.0, decay=0.9
    ),
)


def _imagenet(resolution: int, latent_dim: int, quantizer: QuantizerConfig) -> BigganTrain:
    attention = (resolution // 2,)
    batch_size = 2 * resolution
    return BigganTrain(
        name_suffix="quant",
        # 100 epochs of 1,281,167 images, four batches an iteration
        max_steps=-(-100 * 1_281_167 // (4 * batch_size)),
        sn_eps=1e-6,
        data=DataConfig("hdf5", f"data/ILSVRC{resolution}.hdf5", resolution=resolution),
        generator=GeneratorConfig(
            latent_dim=latent_dim, hierarchical=True, shared_dim=128, attention=attention
        ),
        discriminator=DiscriminatorConfig(attention=attention),
        quantizer=quantizer,
        step=StepConfig(
            batch_size=batch_size,
            num_d_steps=1,
            num_d_accumulations=4,
            num_g_accumulations=4,
            generator_lr=1e-4,
            discriminator_lr=4e-4,
            adam_eps=1e-6,
            ema_start=20_000,
        ),
    )


I64 = replace(
    _imagenet(
        64, 120, QuantizerConfig(layers=(2,), codebook_size=1024, commitment_weight=0.5, decay=0.7)
    ),
    name_suffix="test",
)
I128 = _imagenet(
    128,
    120,
    QuantizerConfig(layers=ALL_LAYERS, codebook_size=1024, commitment_weight=15.0, decay=0.8),
)
UPSTREAM_I128 = replace(
    I128,
    name_suffix="",
    evaluate_every=2000,
    max_steps=138_000,
    generator=replace(I128.generator, channels=96),
    discriminator=replace(I128.discriminator, channels=96),
    quantizer=replace(I128.quantizer, layers=()),
    step=replace(I128.step, num_d_accumulations=8, num_g_accumulations=8),
)
UPSTREAM_CH64 = replace(
    UPSTREAM_I128,
    generator=replace(I128.generator, channels=64),
    discriminator=replace(I128.discriminator, channels=64),
)
UPSTREAM_DEEP = replace(
    UPSTREAM_I128,
    architecture="biggan-deep",
    init="none",
    generator=replace(I128.generator, channels=128, latent_dim=128, depth=2),
    discriminator=replace(I128.discriminator, channels=128, depth=2),
)
UPSTREAM_SAGAN = replace(
    UPSTREAM_I128,
    name_suffix="SAGAN_bs128x2_ema",
    max_steps=500_456,
    init="glorot",
    sn_eps=1e-8,
    generator=GeneratorConfig(latent_dim=128, shared_dim=128, attention=(64,)),
    discriminator=DiscriminatorConfig(attention=(64,)),
    step=replace(
        I128.step,
        batch_size=128,
        num_d_accumulations=2,
        num_g_accumulations=2,
        adam_eps=1e-8,
        ema_start=2000,
    ),
)
UPSTREAM_SNGAN = replace(
    UPSTREAM_SAGAN,
    name_suffix="SNGAN",
    max_steps=400_365,
    use_average=False,
    generator=GeneratorConfig(latent_dim=128, attention=()),
    discriminator=DiscriminatorConfig(wide=False, attention=()),
    step=StepConfig(
        batch_size=64,
        num_d_steps=5,
        generator_lr=2e-4,
        discriminator_lr=2e-4,
        generator_betas=(0.0, 0.9),
        discriminator_betas=(0.0, 0.9),
    ),
)
UPSTREAM_C10 = replace(
    C10,
    name_suffix="",
    max_steps=125_000,  # 500 epochs of 250 iterations
    save_every=2000,
    evaluate_every=5000,
    quantizer=replace(C10.quantizer, layers=()),
    step=replace(CIFAR_STEP, batch_size=50),
)
SMALL = BigganTrain(
    max_steps=3000,
    init="N02",
    sample_statistics="standing",
    log_every=50,
    save_every=500,
    evaluate_every=1000,
    sample_every=500,
    keep_best=1,
    data=DataConfig("hdf5", "data/cifar10_jpeg.hdf5", in_memory=True),
    generator=GeneratorConfig(channels=16, latent_dim=64, shared_dim=32),
    discriminator=DiscriminatorConfig(channels=16),
    quantizer=QuantizerConfig(
        layers=ALL_LAYERS, codebook_size=256, commitment_weight=1.0, decay=0.8
    ),
    step=StepConfig(
        batch_size=32,
        num_d_steps=2,
        generator_lr=2e-4,
        discriminator_lr=2e-4,
        ema_decay=0.999,
        ema_start=200,
    ),
    scoring=ScoringOptions(features="random", num_images=5000),
)
# Found by trials (docs/experiments.md, Demo). Many small iterations help most, as D learns which
# shape belongs to which class only where images are good already. Noise in every block of G keeps
# its colours apart: with noise in the first layer alone a seed ended with one picture a class.
# Momentum keeps D's scores of all images from swinging from step to step. Single weights forget a
# shape and find it again; a long average does not.
DEMO = replace(
    SMALL,
    max_steps=4000,
    init="ortho",
    log_every=50,
    save_every=1000,
    evaluate_every=1000,
    sample_every=1000,
    data=DataConfig(
        "toy", "", resolution=16, toy_images=20_000, toy_variation=0.2, in_memory=True
    ),
    generator=GeneratorConfig(
        channels=8, latent_dim=48, hierarchical=True, shared_dim=32, spectral_norm=False
    ),
    discriminator=DiscriminatorConfig(channels=8),
    quantizer=QuantizerConfig(
        layers=(0, 1, 2), codebook_size=64, commitment_weight=0.05, codebook_start="features",
        revive_below=0.1,
    ),
    step=StepConfig(
        batch_size=16,
        num_d_steps=1,
        loss="dcgan",
        generator_lr=1e-3,
        discriminator_lr=5e-4,
        generator_betas=(0.5, 0.99),
        discriminator_betas=(0.5, 0.99),
        schedule="linear",
        decay_start=0.5,
        ema_decay=0.998,
        ema_start=100,
    ),
    scoring=ScoringOptions(features="random", num_images=500, real_images=2000),
)  # fmt: skip
# The reduced width, and DiffAugment as its authors use it where data are few.
ALL_POLICIES: tuple[Policy, ...] = ("color", "translation", "cutout")
SMALL_DATA = replace(
    SMALL,
    max_steps=20_000,
    data=DataConfig("folder", "data/mine", resolution=64, augment=True, in_memory=True),
    generator=replace(SMALL.generator, channels=64, latent_dim=128, shared_dim=128),
    discriminator=DiscriminatorConfig(channels=64),
    step=replace(SMALL.step, augment=ALL_POLICIES, ema_decay=0.9999, ema_start=1000),
)
SMOKE = replace(
    DEMO,
    max_steps=4,
    log_every=1,
    save_every=2,
    evaluate_every=4,
    sample_every=4,
    standing_batches=2,
    data=DataConfig("toy", "", toy_images=64),
    generator=GeneratorConfig(channels=8, latent_dim=8, shared_dim=4),
    discriminator=DiscriminatorConfig(channels=8),
    quantizer=replace(SMALL.quantizer, codebook_size=16),
    step=replace(SMALL.step, batch_size=4, num_d_steps=1),
    scoring=ScoringOptions(features="random", num_images=16, batch_size=8, splits=2),
)


def without_quantizer(config: BigganTrain) -> BigganTrain:
    """The BigGAN twin: everything alike, no layer quantized."""
    return replace(config, name_suffix="baseline", quantizer=replace(config.quantizer, layers=()))


def _quantized(config: BigganTrain, **options: Any) -> BigganTrain:
    return replace(config, quantizer=replace(config.quantizer, **options))


TABLE = "class-conditional generation"
PRESETS: dict[str, tuple[str, BigganTrain]] = {
    "biggan-c10": (f"FQ-BigGAN, {TABLE}, CIFAR-10", C10),
    "biggan-c10-baseline": (f"BigGAN, {TABLE}, CIFAR-10", without_quantizer(C10)),
    "biggan-c10-straight": (
        "FQ-BigGAN as the paper draws it, D goes on with the codes, CIFAR-10",
        _quantized(C10, forward="straight_through", warmup_calls=5000),
    ),
    "biggan-c100": (f"FQ-BigGAN, {TABLE}, CIFAR-100", C100),
    "biggan-c100-baseline": (f"BigGAN, {TABLE}, CIFAR-100", without_quantizer(C100)),
    "biggan-i64": (f"FQ-BigGAN, {TABLE}, ImageNet 64x64", I64),
    "biggan-i64-baseline": (f"BigGAN, {TABLE}, ImageNet 64x64", without_quantizer(I64)),
    "biggan-i128": (f"FQ-BigGAN, {TABLE}, ImageNet 128x128", I128),
    "biggan-i128-baseline": (f"BigGAN, {TABLE}, ImageNet 128x128", without_quantizer(I128)),
    "biggan-c10-upstream": ("BigGAN-PyTorch's launch_cifar_ema", UPSTREAM_C10),
    "biggan-i128-upstream": ("BigGAN-PyTorch's launch_BigGAN_bs256x8", UPSTREAM_I128),
    "biggan-i128-upstream-ch64": ("BigGAN-PyTorch's launch_BigGAN_ch64_bs256x8", UPSTREAM_CH64),
    "biggan-i128-upstream-deep": ("BigGAN-PyTorch's launch_BigGAN_deep", UPSTREAM_DEEP),
    "biggan-i128-upstream-sagan": ("BigGAN-PyTorch's launch_SAGAN_bs128x2_ema", UPSTREAM_SAGAN),
    "biggan-i128-upstream-sngan": ("BigGAN-PyTorch's launch_SNGAN", UPSTREAM_SNGAN),
    **{
        f"biggan-c100-k{size}": (
            f"ablation, CIFAR-100: {size} codes",
            _quantized(C100, codebook_size=size),
        )
        for size in (16, 256, 1024)
    },
    **{
        f"biggan-c100-layer{layer}": (
            f"ablation, CIFAR-100: layer {layer} alone",
            _quantized(C100, layers=(layer,)),
        )
        for layer in ALL_LAYERS
    },
    **{
        f"biggan-c100-decay{decay}": (
            f"ablation, CIFAR-100: momentum {decay}",
            _quantized(C100, decay=decay),
        )
        for decay in (0.7, 0.8, 0.99)
    },
    **{
        f"biggan-c100-weight{weight}": (
            f"ablation, CIFAR-100: weight {weight}",
            _quantized(C100, commitment_weight=float(weight)),
        )
        for weight in (0.5, 1, 5)
    },
    "small-cifar10-biggan": ("BigGAN of reduced width on a CPU", without_quantizer(SMALL)),
    "small-cifar10-fq-commit": ("FQ-BigGAN of reduced width, as released", SMALL),
    "small-cifar10-fq-straight": (
        "FQ-BigGAN of reduced width, D goes on with the codes",
        _quantized(SMALL, forward="straight_through", warmup_calls=1000),
    ),
    "biggan-small-data": ("FQ-BigGAN with DiffAugment, for some hundreds of images", SMALL_DATA),
    "demo": ("ten toy shapes of 16 pixels, about four minutes on a CPU core", DEMO),
    "smoke": ("a few tiny steps", SMOKE),
}
