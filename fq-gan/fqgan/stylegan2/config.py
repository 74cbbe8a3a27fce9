"""All options of FQ-StyleGAN2, its schedule, the configurations a to f, and the presets."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, cast

from ..augment.adaptive import AdaptiveOptions
from ..data.datasets import DataConfig, data_name
from ..quantizer import QuantizerOptions
from ..runs import BestMetric, TrainOptions
from ..runtime.files import json_text
from ..runtime.options import ADDED, at_least, option, positive
from ..scoring import ScoringOptions

GeneratorArchitecture = Literal["skip", "orig", "resnet", "growing", "stylegan1"]
DiscriminatorArchitecture = Literal["resnet", "orig", "skip", "growing", "stylegan1"]
GeneratorLoss = Literal["logistic_ns", "logistic", "wgan"]
DiscriminatorLoss = Literal["logistic", "wgan"]

LEGACY = ("growing", "stylegan1")
# Codes per quantized layer, by log2 of the resolution that enters the block (the authors' table).
CODEBOOK_SIZES = {2: 128, 3: 128, 4: 128, 5: 128, 6: 128}
LARGE_CODEBOOK_SIZE = 64  # at 128x128 and above


@dataclass(frozen=True)
class MappingConfig:
    """The network from z to w."""

    latent_dim: int = 512
    """Size of z."""
    style_dim: int = 512
    """Size of w."""
    hidden_dim: int = 512
    """Width of the layers between."""
    num_layers: int = 8
    """Dense layers."""
    lr_multiplier: float = 0.01
    """Learning rate of these layers relative to the others."""

    def __post_init__(self) -> None:
        at_least(self, "mapping", latent_dim=1, style_dim=1, hidden_dim=1, num_layers=1)
        positive(self, "mapping", "lr_multiplier")


@dataclass(frozen=True)
class GeneratorConfig:
    """The generator."""

    architecture: GeneratorArchitecture = "skip"
    """skip, orig, resnet (config e and f); growing (configs b to d); stylegan1 (config a)."""
    channel_base: int = 8192
    """Width: resolution R has channel-base / (R / 2) channels, at most channel-max."""
    channel_max: int = 512
    """Largest width."""
    fir: tuple[int, ...] = (1, 3, 3, 1)
    """Filter of up- and downsampling; empty: nearest neighbours and averages."""
    style_mixing: float = 0.9
    """Share of the batches whose layers take their styles from two latents."""
    average_decay: float = 0.995
    """Decay of the average style that truncation pulls towards, per forward pass in training."""

    def __post_init__(self) -> None:
        at_least(self, "generator", channel_base=1, channel_max=1)
        if not 0.0 <= self.style_mixing <= 1.0:
            raise ValueError(f"--generator.style-mixing must be in [0, 1], got {self.style_mixing}")


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator."""

    architecture: DiscriminatorArchitecture = "resnet"
    """resnet, orig, skip (config e and f); growing (configs b to d); stylegan1 (config a)."""
    channel_base: int = 8192
    """Width: resolution R has channel-base / (R / 2) channels, at most channel-max."""
    channel_max: int = 512
    """Largest width."""
    fir: tuple[int, ...] = (1, 3, 3, 1)
    """Filter of downsampling; empty: averages. stylegan1 blurs with (1, 2, 1) unless empty."""
    group_size: int = 4
    """Images whose deviation is one feature of the last block; 0 leaves the feature out."""
    group_features: int = 1
    """Number of such features."""

    def __post_init__(self) -> None:
        at_least(
            self, "discriminator", channel_base=1, channel_max=1, group_features=1, group_size=0
        )


@dataclass(frozen=True)
class QuantizerConfig(QuantizerOptions):
    """Feature quantization in the discriminator."""

    layers: tuple[int, ...] = (4, 5)
    """Blocks, by log2 of the resolution that enters them; none at all is plain StyleGAN2."""
    codebook_size: int = 0
    """Number of codes per layer; 0: the authors', 128 below 128x128 and 64 from there on."""

    def codes_at(self, layer: int) -> int:
        """K of block ``layer``."""
        return self.codebook_size or CODEBOOK_SIZES.get(layer, LARGE_CODEBOOK_SIZE)


@dataclass(frozen=True)
class Stylegan2Config:
    """Both networks."""

    kind: ClassVar[str] = "stylegan2"

    resolution: int = 1024
    """Side of the images, a power of two from 8."""
    num_channels: int = 3
    """Channels of the images."""
    label_size: int = 0
    """Size of the label vectors; 0: unconditional."""
    mapping: MappingConfig = field(default_factory=MappingConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(
                f"--data.resolution must be a power of two from 8, got {self.resolution}"
            )
        if self.label_size < 0 or self.num_channels < 1:
            raise ValueError("label vectors and images need sizes that are not negative")
        wrong = [n for n in self.quantizer.layers if not 3 <= n <= self.levels]
        if wrong:
            raise ValueError(
                f"--quantizer.layers has {wrong[0]}, but at {self.resolution} pixels the blocks "
                f"are 3 to {self.levels} (log2 of the resolution that enters them)"
            )
        if self.quantizer.layers and self.discriminator.architecture in LEGACY:
            raise ValueError(
                f"--discriminator.architecture {self.discriminator.architecture} has no feature "
                "quantization; leave --quantizer.layers empty or take resnet, orig or skip"
            )
        if (self.generator.architecture in LEGACY) != (self.discriminator.architecture in LEGACY):
            raise ValueError(
                "--generator.architecture and --discriminator.architecture must both grow "
                "(growing, stylegan1) or both not"
            )

    @property
    def levels(self) -> int:
        """log2 of the resolution."""
        return int(math.log2(self.resolution))

    @property
    def num_layers(self) -> int:
        """Layers of the generator that take a style of their own."""
        return 2 * self.levels - 2

    @property
    def growing(self) -> bool:
        """Whether training begins with small images."""
        return self.discriminator.architecture in LEGACY


def channels_at(config: GeneratorConfig | DiscriminatorConfig, stage: int) -> int:
    """Width of ``stage`` = log2(resolution) - 1, between 1 and ``channel_max``."""
    return min(max(config.channel_base >> stage, 1), config.channel_max)


@dataclass(frozen=True)
class StepConfig:
    """One training iteration: updates of G and D, and of the regularizers that are due."""

    batch_size: int = 4
    """Images per forward pass and process."""
    num_accumulations: int = 1
    """Batches per update."""
    generator_lr: float = 0.002
    """Adam's learning rate for G, before the correction for lazy regularization."""
    discriminator_lr: float = 0.002
    """Adam's learning rate for D, likewise."""
    betas: tuple[float, float] = (0.0, 0.99)
    """Adam's decay rates, likewise."""
    adam_eps: float = 1e-8
    """Adam's epsilon."""
    generator_loss: GeneratorLoss = "logistic_ns"
    """Non-saturating logistic, saturating logistic, or Wasserstein."""
    discriminator_loss: DiscriminatorLoss = "logistic"
    """Logistic or Wasserstein."""
    r1_weight: float = 10.0
    """gamma of R1, the squared gradient of D's scores at real images; 0: without."""
    r2_weight: float = 0.0
    """gamma of R2, the same at generated images."""
    gradient_penalty_weight: float = 0.0
    """Weight of WGAN-GP's penalty between real and generated images."""
    drift_weight: float = 0.0
    """Weight of the squared scores of real images (WGAN-GP: 0.001)."""
    discriminator_every: int = 16
    """Iterations between two regularizations of D; 0: part of every loss (configs a and b)."""
    path_length_weight: float = 2.0
    """Weight of path length regularization; 0: without (configs a to c)."""
    path_length_decay: float = 0.01
    """How fast the mean path length follows."""
    path_length_shrink: int = 2
    """The batch for path lengths is so many times smaller."""
    generator_every: int = 4
    """Iterations between two regularizations of G; 0: part of every loss."""
    average_kimg: float = 10.0
    """Half-life of the average of G, in thousands of images."""
    skip_nonfinite: bool = True
    """Leave out updates whose gradients are not finite, as the authors do."""

    def __post_init__(self) -> None:
        at_least(
            self, "step", batch_size=1, num_accumulations=1, path_length_shrink=1,
            discriminator_every=0, generator_every=0, average_kimg=0, r1_weight=0, r2_weight=0,
            gradient_penalty_weight=0, drift_weight=0, path_length_weight=0,
        )  # fmt: skip
        positive(self, "step", "generator_lr", "discriminator_lr")

    @property
    def images_per_step(self) -> int:
        """Real images that one iteration takes, per process."""
        return self.batch_size * self.num_accumulations


@dataclass(frozen=True)
class ScheduleConfig:
    """What changes in the course of a run; counted in thousands of images (kimg)."""

    total_kimg: float = 25_000.0
    """Length of the run."""
    growing: bool = False
    """Begin with small images (configs a to d)."""
    initial_resolution: int = 8
    """Where growing begins."""
    training_kimg: float = 600.0
    """Growing: how long a resolution is trained."""
    transition_kimg: float = 600.0
    """Growing: how long the next resolution is faded in."""
    batch_size: int = 32
    """Images per update over all processes, where batch-size-at says nothing."""
    batch_size_at: tuple[tuple[int, int], ...] = ()
    """Pairs of resolution and batch size."""
    device_batch_size: int = 4
    """Images per forward pass, where device-batch-size-at says nothing."""
    device_batch_size_at: tuple[tuple[int, int], ...] = ()
    """Pairs of resolution and images per forward pass."""
    lr: float = 0.002
    """Learning rate, where lr-at says nothing."""
    lr_at: tuple[tuple[int, float], ...] = ()
    """Pairs of resolution and learning rate."""
    warmup_kimg: float = 0.0
    """The learning rate rises linearly during so many."""

    def __post_init__(self) -> None:
        at_least(
            self, "schedule", batch_size=1, device_batch_size=1, training_kimg=0,
            transition_kimg=0, warmup_kimg=0,
        )  # fmt: skip
        positive(self, "schedule", "total_kimg", "lr")


# Thousands of images between two rows of the log, by resolution.
TICK_KIMG = {8: 28.0, 16: 24.0, 32: 20.0, 64: 16.0, 128: 12.0, 256: 8.0, 512: 6.0, 1024: 4.0}
DEFAULT_TICK_KIMG = 4.0

Value = TypeVar("Value", int, float)


class Phase(NamedTuple):
    """Where a run is."""

    kimg: float  # thousands of images shown
    lod: float  # halvings of the resolution; fractions fade between two resolutions
    resolution: int  # the larger one while fading
    batch_size: int  # images per update, over all processes
    device_batch_size: int  # images per forward pass
    lr: float
    tick_kimg: float


def phase_at(images_seen: int, config: ScheduleConfig, resolution: int) -> Phase:
    """The phase after ``images_seen`` images of a run whose images have ``resolution``.

    When growing, each resolution is trained for ``training_kimg`` and the next one then faded in
    over ``transition_kimg``.
    """
    kimg = images_seen / 1000.0
    lod = _lod_at(kimg, config, resolution) if config.growing else 0.0
    current = resolution >> math.floor(lod)
    lr = _at(config.lr_at, current, config.lr)
    if config.warmup_kimg > 0:
        lr *= min(kimg / config.warmup_kimg, 1.0)
    return Phase(
        kimg,
        lod,
        current,
        _at(config.batch_size_at, current, config.batch_size),
        _at(config.device_batch_size_at, current, config.device_batch_size),
        lr,
        TICK_KIMG.get(current, DEFAULT_TICK_KIMG),
    )


def _lod_at(kimg: float, config: ScheduleConfig, resolution: int) -> float:
    duration = config.training_kimg + config.transition_kimg
    index = math.floor(kimg / duration) if duration > 0 else 0
    inside = kimg - index * duration
    lod = math.log2(resolution) - math.log2(config.initial_resolution) - index
    if config.transition_kimg > 0:
        lod -= max(inside - config.training_kimg, 0.0) / config.transition_kimg
    return max(lod, 0.0)


def _at(pairs: Sequence[tuple[int, Value]], resolution: int, default: Value) -> Value:
    return dict(pairs).get(resolution, default)


# What does not change the result, or only how far the run goes, is no part of the folder's name.
OUTSIDE_DIGEST = (
    "run_dir", "name", "device", "log_kimg", "save_kimg", "evaluate_kimg", "sample_kimg", "keep",
    "patience", "report_to",
    "keep_best", "best_metric", "sheet_images", "scoring",
)  # fmt: skip
# The schedule decides these at every moment of the run.
OF_THE_SCHEDULE = {
    "batch_size": "--schedule.device-batch-size",
    "num_accumulations": "--schedule.batch-size",
    "generator_lr": "--schedule.lr",
    "discriminator_lr": "--schedule.lr",
}


@dataclass(frozen=True)
class Stylegan2Train(TrainOptions):
    """Train StyleGAN2 or FQ-StyleGAN. Run the same command again to continue a run."""

    kind: ClassVar[str] = "stylegan2"

    name: str = "stylegan2"
    """First word of the folder's name."""
    initial_kimg: float = 0.0
    """Thousands of images that --initial-weights have seen; the schedule goes on from there."""
    conditional: bool = False
    """Give the labels of the data set to both networks."""

    log_kimg: float = 4.0
    """Thousands of images between two rows of metrics.jsonl, the authors' tick."""
    save_kimg: float = 40.0
    """Thousands of images between two checkpoints."""
    evaluate_kimg: float = 40.0
    """Thousands of images between two scores; 0 scores never."""
    sample_kimg: float = 40.0
    """Thousands of images between two sheets; 0 writes none."""
    sheet_images: int = 64
    """Images on a sheet."""
    keep_best: int = 1
    """Weights of the best scores that stay, in best0, best1, ..."""
    best_metric: BestMetric = "fid"
    """What "best" means."""

    data: DataConfig = field(default_factory=DataConfig)
    mapping: MappingConfig = field(default_factory=MappingConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    adaptive: AdaptiveOptions = field(default_factory=AdaptiveOptions, metadata=ADDED)
    step: StepConfig = field(default_factory=StepConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    scoring: ScoringOptions = field(default_factory=ScoringOptions)

    def __post_init__(self) -> None:
        positive(self, "", "log_kimg", "save_kimg")
        at_least(self, evaluate_kimg=0, sample_kimg=0, initial_kimg=0)
        super().__post_init__()
        at_least(self, keep_best=1, sheet_images=1)
        for name, instead in OF_THE_SCHEDULE.items():
            if getattr(self.step, name) != getattr(StepConfig, name):
                given = f"{option(name, 'step')} {getattr(self.step, name)}"
                raise ValueError(f"{given}: the schedule of a run decides this; give {instead}")
        self.networks(2)  # raises where the parts do not fit each other

    def unused(self) -> dict[str, str]:
        """Options of this family that the run would record and not use, see `unused_options`."""
        unused: dict[str, str] = {}
        if not self.adaptive.enabled:
            reason = "nothing is augmented adaptively; give --adaptive.enabled, or drop it"
            for name in ("target", "interval", "kimg", "initial"):
                unused[f"--adaptive.{name}"] = reason
        if not self.step.path_length_weight:
            reason = "--step.path-length-weight 0 leaves path lengths out; drop one of them"
            names = ("path-length-decay", "path-length-shrink", "generator-every")
            unused |= {f"--step.{name}": reason for name in names}
        step, size = self.step, self.data.resolution
        if not max(step.r1_weight, step.r2_weight, step.gradient_penalty_weight):
            unused["--step.discriminator-every"] = (
                "--step.r1-weight 0 leaves nothing to regularize D by; drop one of them"
            )
        if self.discriminator.group_size < 2:
            unused["--discriminator.group-features"] = (
                f"--discriminator.group-size {self.discriminator.group_size} makes no such "
                "feature; give 2 or more, or drop it"
            )
        if not self.sample_kimg:
            unused["--sheet-images"] = "--sample-kimg 0 writes no sheets; drop one of them"
        if not self.schedule.growing:
            reason = "images begin in full size; give --schedule.growing, or drop it"
            for name in ("initial-resolution", "training-kimg", "transition-kimg"):
                unused[f"--schedule.{name}"] = reason
            for name in ("batch_size_at", "device_batch_size_at", "lr_at"):
                if size not in dict(getattr(self.schedule, name)):
                    unused[option(name, "schedule")] = (
                        f"no images but those of {size} pixels are trained with; name {size}, "
                        "give --schedule.growing, or drop it"
                    )
        return unused

    def networks(self, num_classes: int) -> Stylegan2Config:
        """The networks of this run for a data set of ``num_classes`` classes."""
        return Stylegan2Config(
            resolution=self.data.resolution,
            label_size=num_classes if self.conditional else 0,
            mapping=self.mapping,
            generator=self.generator,
            discriminator=self.discriminator,
            quantizer=self.quantizer,
        )

    @property
    def total_images(self) -> int:
        """Images after which the run ends."""
        return round(self.schedule.total_kimg * 1000)

    @property
    def folder(self) -> Path:
        """Where the run is."""
        if self.run_dir:
            return Path(self.run_dir)
        plain = dataclasses.asdict(self)
        plain["data"].pop("workers")
        plain["schedule"].pop("total_kimg")
        # As it was called before there were these options.
        if not self.adaptive.enabled:
            del plain["adaptive"]
        if self.data.toy_variation == 1:
            del plain["data"]["toy_variation"]
        if self.precision == "auto":  # the device decides, and does not give the run another name
            plain["precision"] = "fp32"
        kept = {name: value for name, value in plain.items() if name not in OUTSIDE_DIGEST}
        digest = hashlib.sha256(json_text(kept, sort_keys=True).encode()).hexdigest()[:8]
        return Path("runs") / f"{self.name}-{data_name(self.data)}-{digest}"


def share_phase(phase: Phase, processes: int) -> tuple[int, int]:
    """The batch of one pass and the number of passes of each of ``processes``.

    A pass takes ``phase.device_batch_size`` images where that many can be dealt out, else the
    process's whole share.

    Raises:
        ValueError: the batch cannot be shared evenly.
    """
    share, rest = divmod(phase.batch_size, processes)
    device_batch = min(phase.device_batch_size, share)
    if rest or share % device_batch:
        raise ValueError(
            f"--schedule.batch-size {phase.batch_size} cannot be shared by {processes} processes "
            f"with passes of --schedule.device-batch-size {phase.device_batch_size}; choose a "
            "multiple of their product"
        )
    return device_batch, share // device_batch


PLAIN = QuantizerConfig(layers=())
GROWING_SCHEDULE = ScheduleConfig(
    growing=True,
    batch_size_at=((8, 256), (16, 128), (32, 64)),
    device_batch_size_at=((8, 32), (16, 16), (32, 8)),
    lr=0.001,
    lr_at=((128, 0.0015), (256, 0.002), (512, 0.003), (1024, 0.003)),
)
NOT_LAZY = {"discriminator_every": 0, "generator_every": 0}


class Recipe(NamedTuple):
    """One configuration."""

    networks: Stylegan2Config
    step: StepConfig
    schedule: ScheduleConfig


def _legacy(architecture: str, step: StepConfig) -> Recipe:
    networks = Stylegan2Config(
        generator=GeneratorConfig(architecture=cast(GeneratorArchitecture, architecture)),
        discriminator=DiscriminatorConfig(
            architecture=cast(DiscriminatorArchitecture, architecture)
        ),
        quantizer=PLAIN,
    )
    return Recipe(networks, step, GROWING_SCHEDULE)


def _modern(generator: str, discriminator: str, base: int, gamma: float) -> Recipe:
    networks = Stylegan2Config(
        generator=GeneratorConfig(
            architecture=cast(GeneratorArchitecture, generator), channel_base=base
        ),
        discriminator=DiscriminatorConfig(
            architecture=cast(DiscriminatorArchitecture, discriminator), channel_base=base
        ),
    )
    return Recipe(networks, StepConfig(r1_weight=gamma), ScheduleConfig())


def _growing_step(**options: float) -> StepConfig:
    return StepConfig(generator_lr=0.001, discriminator_lr=0.001, **options)  # type: ignore[arg-type]


CONFIGURATIONS = {
    "config-a": _legacy("stylegan1", _growing_step(path_length_weight=0.0, **NOT_LAZY)),
    "config-b": _legacy("growing", _growing_step(path_length_weight=0.0, **NOT_LAZY)),
    "config-c": _legacy("growing", _growing_step(path_length_weight=0.0)),
    "config-d": _legacy("growing", _growing_step()),
    "config-e": _modern("skip", "resnet", 8192, 100.0),
    "config-f": _modern("skip", "resnet", 16384, 10.0),
    **{
        f"config-e-G{g}-D{d}": _modern(g, d, 8192, 100.0)
        for g in ("orig", "skip", "resnet")
        for d in ("orig", "skip", "resnet")
    },
}


def build_recipe(
    name: str,
    resolution: int = 1024,
    *,
    label_size: int = 0,
    quantizer: QuantizerConfig | None = None,
) -> Recipe:
    """Configuration ``name`` at a resolution.

    Args:
        name: ``config-a`` to ``config-f``, or as ``config-e-Gorig-Dresnet``.
        resolution: side of the images.
        label_size: size of the label vectors; 0: unconditional.
        quantizer: feature quantization; absent: layers 4 and 5 in configurations e and f.

    Raises:
        ValueError: there is no such configuration, or it has no feature quantization.
    """
    if name not in CONFIGURATIONS:
        raise ValueError(
            f"there is no {name!r}; the configurations are {', '.join(CONFIGURATIONS)}"
        )
    recipe = CONFIGURATIONS[name]
    networks = recipe.networks
    if quantizer is not None and quantizer.layers and networks.growing:
        raise ValueError(
            f"{name} has no feature quantization; take config-e or config-f, or empty "
            "--quantizer.layers"
        )
    networks = Stylegan2Config(
        resolution=resolution,
        label_size=label_size,
        mapping=networks.mapping,
        generator=networks.generator,
        discriminator=networks.discriminator,
        quantizer=networks.quantizer if quantizer is None else quantizer,
    )
    return recipe._replace(networks=networks)


FFHQ = (32, 64, 128, 1024)
# Their fid50k: TensorFlow's network, 50,000 generated images against the first 50,000 real ones.
FID50K = ScoringOptions(features="inception", num_images=50_000, real_images=50_000)


def recipe(
    config: str, resolution: int, quantizer: QuantizerConfig = PLAIN, name: str = ""
) -> Stylegan2Train:
    """A configuration of StyleGAN2's Table 1 (``config-a`` .. ``config-f``) on FFHQ.

    Rows come every tick of the authors' loop; ten of them save, draw and score.
    """
    built = build_recipe(config, resolution, quantizer=quantizer)
    defaults: dict[str, Any] = {option: getattr(StepConfig, option) for option in OF_THE_SCHEDULE}
    tick = TICK_KIMG[resolution]
    return Stylegan2Train(
        name=name or f"stylegan2-{config}",
        channels_last=True,
        log_kimg=tick,
        save_kimg=10 * tick,
        evaluate_kimg=10 * tick,
        sample_kimg=10 * tick,
        data=DataConfig("tfrecords", "data/tfrecords/ffhq", resolution=resolution, augment=True),
        mapping=built.networks.mapping,
        generator=built.networks.generator,
        discriminator=built.networks.discriminator,
        quantizer=built.networks.quantizer,
        step=replace(built.step, **defaults),
        schedule=built.schedule,
        scoring=FID50K,
    )


def without_quantizer(config: Stylegan2Train) -> Stylegan2Train:
    """The StyleGAN2 twin: everything alike, no block quantized."""
    return replace(config, name=f"{config.name}-baseline", quantizer=PLAIN)


# Blocks 4 and 5 (the authors' --discrete_layer 45), 128 codes each.
FQ = QuantizerConfig()
ROWS = {size: recipe("config-e", size, FQ, f"stylegan2-ffhq{size}") for size in FFHQ}
FULL = recipe("config-f", 1024, FQ, "stylegan2-ffhq1024-f")
SMALL = Stylegan2Train(
    name="stylegan2-cifar-small",
    channels_last=True,
    log_kimg=1,
    save_kimg=8,
    evaluate_kimg=16,
    sample_kimg=8,
    data=DataConfig("hdf5", "data/cifar10_jpeg.hdf5", augment=True, in_memory=True),
    mapping=MappingConfig(latent_dim=64, style_dim=64, hidden_dim=64, num_layers=4),
    generator=GeneratorConfig(channel_base=512, channel_max=48),
    discriminator=DiscriminatorConfig(channel_base=512, channel_max=48),
    quantizer=replace(FQ, codebook_size=128),
    step=StepConfig(r1_weight=0.1, average_kimg=2.0),
    schedule=ScheduleConfig(total_kimg=64, batch_size=32, device_batch_size=32),
    scoring=ScoringOptions(features="random", num_images=5000),
)
SMALL_DATA = replace(
    recipe("config-e", 128, FQ, "stylegan2-small-data"),
    data=DataConfig("images", "data/mine", resolution=128, augment=True),
    adaptive=AdaptiveOptions(enabled=True),
    step=StepConfig(r1_weight=1.0),
    schedule=ScheduleConfig(total_kimg=5000, batch_size=32, device_batch_size=8),
    scoring=ScoringOptions(features="random", num_images=5000),
)
DEMO = replace(
    SMALL,
    name="stylegan2-demo",
    log_kimg=0.5,
    save_kimg=5,
    evaluate_kimg=5,
    sample_kimg=5,
    data=DataConfig("toy", "", toy_images=4000, in_memory=True),
    mapping=MappingConfig(latent_dim=32, style_dim=32, hidden_dim=32, num_layers=2),
    generator=GeneratorConfig(channel_base=256, channel_max=24),
    discriminator=DiscriminatorConfig(channel_base=256, channel_max=24),
    quantizer=replace(FQ, codebook_size=64),
    step=replace(SMALL.step, average_kimg=1.0),
    schedule=ScheduleConfig(total_kimg=20, batch_size=16, device_batch_size=16),
    scoring=ScoringOptions(features="random", num_images=500),
)
SMOKE = replace(
    DEMO,
    name="stylegan2-smoke",
    log_kimg=0.008,
    save_kimg=0.016,
    evaluate_kimg=0.032,
    sample_kimg=0.032,
    sheet_images=4,
    data=DataConfig("toy", "", toy_images=64),
    mapping=MappingConfig(latent_dim=8, style_dim=8, hidden_dim=8, num_layers=2),
    generator=GeneratorConfig(channel_base=64, channel_max=8),
    discriminator=DiscriminatorConfig(channel_base=64, channel_max=8),
    quantizer=replace(FQ, codebook_size=8),
    schedule=ScheduleConfig(total_kimg=0.032, batch_size=8, device_batch_size=4),
    scoring=ScoringOptions(features="random", num_images=16, batch_size=8, splits=2),
)
ABOUT = {
    "config-a": "StyleGAN of 2019, growing",
    "config-b": "StyleGAN with demodulated weights, growing",
    "config-c": "config-b with lazy regularization",
    "config-d": "config-c with path length regularization",
    "config-e": "StyleGAN2 without growing",
    "config-f": "StyleGAN2, large networks",
}

PRESETS: dict[str, tuple[str, Stylegan2Train]] = {
    **{
        f"stylegan2-ffhq{size}": (f"FQ-StyleGAN, FFHQ {size}x{size}", row)
        for size, row in ROWS.items()
    },
    **{
        f"stylegan2-ffhq{size}-baseline": (
            f"StyleGAN2 of config-e, FFHQ {size}x{size}",
            without_quantizer(row),
        )
        for size, row in ROWS.items()
    },
    "stylegan2-ffhq1024-f": ("FQ on StyleGAN2's large networks, FFHQ 1024x1024", FULL),
    "stylegan2-ffhq1024-f-baseline": (
        "StyleGAN2's large networks, FFHQ 1024x1024",
        without_quantizer(FULL),
    ),
    **{
        f"stylegan2-{name}": (f"{ABOUT.get(name, name)}, FFHQ 1024x1024", recipe(name, 1024))
        for name in CONFIGURATIONS
    },
    "stylegan2-cifar-small": ("FQ-StyleGAN of reduced width on CIFAR images, on a CPU", SMALL),
    "stylegan2-cifar-small-baseline": (
        "StyleGAN2 of reduced width on CIFAR images, on a CPU",
        without_quantizer(SMALL),
    ),
    "stylegan2-small-data": (
        "FQ-StyleGAN with adaptive augmentation, for some thousands of images, 128x128",
        SMALL_DATA,
    ),
    "stylegan2-demo": ("FQ-StyleGAN on toy shapes, a few minutes on two CPU cores", DEMO),
    "stylegan2-smoke": ("a few tiny steps", SMOKE),
}
