"""All options of FQ-U-GAT-IT, and a preset for each data set of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from ..augment.diffaugment import Policy, check_policies
from ..data.unpaired import UnpairedConfig
from ..quantizer import QuantizerOptions
from ..runs import TrainOptions
from ..runtime.options import ADDED, at_least, positive, require
from ..scoring import FeatureOptions

GanLoss = Literal["lsgan", "gan", "wgan-gp", "wgan-lp", "dragan", "hinge"]

# Codes per layer where none are asked for: those of the released code.
CODEBOOK_SIZES = {1: 64, 2: 128, 3: 128, 4: 128}
DEEPER_CODEBOOK_SIZE = 128


@dataclass(frozen=True)
class GeneratorConfig:
    """Both generators."""

    channels: int = 64
    """Width after the first convolution; the middle has four times as many."""
    num_blocks: int = 4
    """Residual blocks in front of the attention, and as many AdaLIN blocks behind it."""
    light: bool = False
    """Style from averaged features: a quarter of the parameters, and any size of image."""
    smoothing: bool = True
    """Use AdaLIN's mixing factor rho less 0.1, but not below 0."""

    def __post_init__(self) -> None:
        at_least(self, "generator", channels=1, num_blocks=1)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Both discriminators, each a local and a global one."""

    channels: int = 64
    """Width after the first convolution."""
    depth: int = 6
    """Layers of the global discriminator; the local one has two fewer."""
    spectral_norm: bool = True
    """Normalize the weights by their largest singular value."""

    def __post_init__(self) -> None:
        at_least(self, "discriminator", channels=1, depth=4)


@dataclass(frozen=True)
class QuantizerConfig(QuantizerOptions):
    """Feature quantization in the global discriminators."""

    layers: tuple[int, ...] = (1, 2, 3)
    """Convolutions whose output is quantized, from 1; none at all is plain U-GAT-IT."""
    codebook_size: int = 0
    """Number of codes per layer; 0: 64 at layer 1 and 128 deeper, as released."""
    commitment_weight: float = 2.0
    """Factor of the commitment loss."""
    decay: float = 0.85
    """Decay of the moving averages that make the dictionary, per forward pass."""

    def codes_of(self, layer: int) -> int:
        """Number of codes at ``layer``."""
        return self.codebook_size or CODEBOOK_SIZES.get(layer, DEEPER_CODEBOOK_SIZE)


@dataclass(frozen=True)
class UgatitConfig:
    """All four networks."""

    kind: ClassVar[str] = "ugatit"

    image_size: int = 256
    """Side of the images in training; a multiple of 4."""
    image_channels: int = 3
    """Colours of the images."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)

    def __post_init__(self) -> None:
        if self.image_size < 8 or self.image_size % 4:
            raise ValueError(
                f"--data.resolution must be a multiple of 4 from 8, got {self.image_size}"
            )
        if self.image_channels < 1:
            raise ValueError(f"images need at least one channel, got {self.image_channels}")
        halvings = self.discriminator.depth - 1
        if self.image_size >> halvings < 3:
            raise ValueError(
                f"--discriminator.depth {self.discriminator.depth} halves images of "
                f"{self.image_size} pixels {halvings} times, which leaves less than the 3 its last "
                f"layers need; choose a smaller depth or larger images"
            )
        last = self.discriminator.depth - 2
        wrong = [layer for layer in self.quantizer.layers if not 1 <= layer <= last]
        if wrong:
            raise ValueError(
                f"--quantizer.layers has {wrong[0]}, but with --discriminator.depth "
                f"{self.discriminator.depth} the layers are 1 to {last}"
            )


@dataclass(frozen=True)
class StepConfig:
    """One training iteration: a step of the discriminators and one of the generators."""

    batch_size: int = 1
    """Images per domain, over all processes together."""
    lr: float = 1e-4
    """Adam's learning rate, before the decay."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay rates."""
    adam_eps: float = 1e-8
    """Adam's epsilon."""
    loss: GanLoss = "lsgan"
    """Adversarial loss; wgan-gp, wgan-lp and dragan come with a gradient penalty."""
    adversarial_weight: float = 1.0
    """Factor of the adversarial losses, in both steps."""
    cycle_weight: float = 10.0
    """Factor of the L1 loss of images translated there and back."""
    identity_weight: float = 10.0
    """Factor of the L1 loss of images that are in the target domain already."""
    cam_weight: float = 1000.0
    """Factor of the generators' attention classifiers."""
    penalty_weight: float = 10.0
    """Factor of the gradient penalty."""
    l2_weight: float = 1e-4
    """Factor of half the squared norm of all kernels."""
    generator_every: int = 1
    """Steps of the discriminators per step of the generators."""
    augment: tuple[Policy, ...] = field(default=(), metadata=ADDED)
    """DiffAugment: color, translation, cutout of all that D sees, for small data sets."""
    separate_batches: bool = False
    """Give the generators images of their own, as the authors do; costs two more translations."""

    def __post_init__(self) -> None:
        at_least(
            self, "step", batch_size=1, generator_every=1, adversarial_weight=0, cycle_weight=0,
            identity_weight=0, cam_weight=0, penalty_weight=0, l2_weight=0,
        )  # fmt: skip
        positive(self, "step", "lr")
        check_policies(self.augment)

    def moves_generators(self, step: int) -> bool:
        """Whether the generators learn in iteration number ``step`` (from 1)."""
        return (step - 1) % self.generator_every == 0

    def batches_per_step(self, step: int) -> int:
        """Batches of each domain that iteration number ``step`` (from 1) takes."""
        return 2 if self.separate_batches and self.moves_generators(step) else 1


@dataclass(frozen=True)
class ScheduleConfig:
    """Length of training and decay of the learning rate; an epoch is a number of iterations."""

    epochs: int = 101
    """Epochs of training."""
    epoch_steps: int = 10_000
    """Iterations per epoch."""
    decay: bool = True
    """Let the learning rate fall linearly to 0 from epoch schedule.decay-epoch on."""
    decay_epoch: int = 50
    """Epochs with the full learning rate."""

    def __post_init__(self) -> None:
        at_least(self, "schedule", epochs=1, epoch_steps=1, decay_epoch=0)

    @property
    def total_steps(self) -> int:
        """Iterations of the whole training."""
        return self.epochs * self.epoch_steps

    def learning_rate(self, lr: float, step: int) -> float:
        """Learning rate of iteration number ``step`` (from 1); constant within an epoch."""
        epoch = (step - 1) // self.epoch_steps
        if not self.decay or epoch < self.decay_epoch or self.epochs <= self.decay_epoch:
            return lr
        return lr * max(self.epochs - epoch, 0) / (self.epochs - self.decay_epoch)


@dataclass(frozen=True)
class TranslationScoring(FeatureOptions):
    """How translations are scored: KID of each direction on the test folders."""

    subsets: int = 100
    """Random subsets that KID is averaged over."""
    subset_size: int = 0
    """Images of each kind in a subset; 0 takes half of the smaller set."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "scoring", subsets=1)
        if self.subset_size < 0 or self.subset_size == 1:
            raise ValueError(f"--scoring.subset-size must be 0 or 2 up, got {self.subset_size}")


def _check_names(first: str, second: str) -> None:
    """Both directions are called after the domains, in tables and as folders of pictures."""
    for name in (first, second):
        if not name.strip() or name.startswith(".") or "/" in name or "\\" in name:
            raise ValueError(
                f"--domain-names has {name!r}, which cannot name folders of pictures; give a word"
            )
    if first.casefold() == second.casefold():
        raise ValueError(
            f"--domain-names {first} {second}: both directions would have one name; give two"
        )


@dataclass(frozen=True)
class UgatitTrain(TrainOptions):
    """Train U-GAT-IT or FQ-U-GAT-IT. Run the same command again to continue a run."""

    kind: ClassVar[str] = "ugatit"

    max_steps: int = 0
    """Iterations; 0: those of the schedule."""
    domain_names: tuple[str, str] = ("A", "B")
    """What the two domains show; for tables and for the names of pictures."""

    log_every: int = 100
    """Iterations between two rows of metrics.jsonl."""
    save_every: int = 10_000
    """Iterations between two checkpoints."""
    evaluate_every: int = 50_000
    """Iterations between two scores, the untrained networks' first; 0 scores never."""
    sample_every: int = 1000
    """Iterations between two sheets of translated test images; 0 writes none."""
    sample_images: int = 5
    """Test images of a sheet."""

    data: UnpairedConfig = field(default_factory=UnpairedConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    step: StepConfig = field(default_factory=StepConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    scoring: TranslationScoring = field(default_factory=lambda: TranslationScoring("inception"))

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, log_every=1, save_every=1, sample_images=1)
        at_least(self, max_steps=0, evaluate_every=0, sample_every=0)
        _check_names(*self.domain_names)
        self.networks()  # raises where the parts do not fit each other

    def unused(self) -> dict[str, str]:
        """Options of this family that the run would record and not use, see `unused_options`."""
        unused: dict[str, str] = {}
        if self.step.loss not in ("wgan-gp", "wgan-lp", "dragan"):
            reason = f"--step.loss {self.step.loss} has no penalty; give wgan-gp, or drop it"
            unused["--step.penalty-weight"] = reason
        if not self.schedule.decay:
            reason = "--schedule.no-decay keeps the learning rate; drop one of them"
            unused["--schedule.decay-epoch"] = reason
            if self.max_steps:
                reason = f"--max-steps {self.max_steps} says how long; drop it, or give 0"
                unused |= {"--schedule.epochs": reason, "--schedule.epoch-steps": reason}
        if not self.sample_every:
            unused["--sample-images"] = "--sample-every 0 writes no sheets; drop one of them"
        return unused

    def networks(self, num_classes: int = 0) -> UgatitConfig:
        """The networks of this run; there are no classes."""
        return UgatitConfig(
            image_size=self.data.resolution,
            generator=self.generator,
            discriminator=self.discriminator,
            quantizer=self.quantizer,
        )

    @property
    def last_step(self) -> int:
        """The number of iterations."""
        return self.max_steps or self.schedule.total_steps

    @property
    def folder(self) -> Path:
        """Where the run is."""
        return Path(self.run_dir) if self.run_dir else Path("runs") / experiment_name(self)


def share_step(step: StepConfig, processes: int) -> StepConfig:
    """``step`` for one of ``processes``, so that together they do what ``step`` says."""
    require(
        step.batch_size % processes == 0,
        f"--step.batch-size {step.batch_size} must be a multiple of the {processes} processes, "
        "which share it",
    )
    return replace(step, batch_size=step.batch_size // processes)


def experiment_name(config: UgatitTrain) -> str:
    """The name of the authors' folder, such as ``UGATIT_q_selfie2anime_lsgan_4resblock_...``."""
    generator, discriminator, step = config.generator, config.discriminator, config.step
    quantizer = config.quantizer
    dataset = "toy" if config.data.source == "toy" else Path(config.data.path).name
    parts = [
        "UGATIT_light" if generator.light else "UGATIT",
        "q" if quantizer.layers else "",
        dataset,
        step.loss,
        f"{generator.num_blocks}resblock",
        f"{discriminator.depth}dis",
        str(step.generator_every),
        *(
            f"{weight:g}"
            for weight in (
                step.adversarial_weight,
                step.cycle_weight,
                step.identity_weight,
                step.cam_weight,
            )
        ),
        "sn" if discriminator.spectral_norm else "",
        "smoothing" if generator.smoothing else "",
    ]
    if quantizer.layers:
        layers = "".join(map(str, quantizer.layers))
        parts += [layers, str(quantizer.commitment_weight), str(quantizer.decay)]
    return "_".join(part for part in parts if part)


def directions(names: Sequence[str]) -> tuple[str, str]:
    """Names of the two translations, such as selfie2anime and anime2selfie."""
    first, second = names
    return f"{first}2{second}", f"{second}2{first}"


# Data set -> what domains A and B show. The paper's names of the directions come from these.
DATASETS: dict[str, tuple[str, str]] = {
    "selfie2anime": ("selfie", "anime"),
    "horse2zebra": ("horse", "zebra"),
    "cat2dog": ("cat", "dog"),
    "portrait": ("portrait", "photo"),
    "vangogh2photo": ("vangogh", "photo"),
}

# A quarter of the width and of the side, twice the learning rate: 20 to 25 minutes on a CPU core.
# In so few iterations the authors' weight of 1000 teaches the attention and little else.
SMALL = UgatitTrain(
    channels_last=True,
    domain_names=DATASETS["selfie2anime"],
    log_every=10,
    save_every=200,
    evaluate_every=1200,
    sample_every=600,
    data=UnpairedConfig(path="data/selfie2anime", resolution=64, in_memory=True),
    generator=GeneratorConfig(channels=16),
    discriminator=DiscriminatorConfig(channels=16, depth=5),
    step=StepConfig(lr=2e-4, cam_weight=10.0),
    schedule=ScheduleConfig(epochs=20, epoch_steps=200, decay_epoch=10),
    scoring=TranslationScoring("random"),
)
DEMO = replace(
    SMALL,
    domain_names=("filled", "inked"),
    sample_images=8,
    data=UnpairedConfig("toy", "", resolution=32, in_memory=True),
    generator=GeneratorConfig(channels=12, num_blocks=2, light=True),
    discriminator=DiscriminatorConfig(channels=16, depth=4),
    quantizer=QuantizerConfig(layers=(1, 2)),
    step=StepConfig(lr=3e-4, cam_weight=10.0),
    schedule=ScheduleConfig(epochs=15, epoch_steps=100, decay_epoch=8),
    evaluate_every=500,
    sample_every=500,
)
# Half the width and side of the paper, for some hundreds of images of one's own.
SMALL_DATA = UgatitTrain(
    save_every=2000,
    evaluate_every=10_000,
    data=UnpairedConfig(path="data/mine", resolution=128, in_memory=True),
    generator=GeneratorConfig(channels=32, light=True),
    discriminator=DiscriminatorConfig(channels=32),
    step=StepConfig(augment=("color", "translation", "cutout")),
    schedule=ScheduleConfig(epochs=100, epoch_steps=1000, decay_epoch=50),
    scoring=TranslationScoring("random"),
)
SMOKE = replace(
    DEMO,
    max_steps=4,
    log_every=1,
    save_every=2,
    evaluate_every=4,
    sample_every=4,
    sample_images=2,
    data=replace(DEMO.data, resolution=24, toy_images=100),
    generator=GeneratorConfig(channels=2, num_blocks=1, light=True),
    discriminator=DiscriminatorConfig(channels=2, depth=4),
    quantizer=QuantizerConfig(layers=(1, 2), codebook_size=8),
    step=StepConfig(batch_size=1),
    scoring=TranslationScoring("random", subsets=4),
)


def without_quantizer(config: UgatitTrain) -> UgatitTrain:
    """The U-GAT-IT twin: everything alike, no layer quantized."""
    return replace(config, quantizer=replace(config.quantizer, layers=()))


def light(config: UgatitTrain) -> UgatitTrain:
    """The twin with the style from averaged features, which the authors call light."""
    return replace(config, generator=replace(config.generator, light=True))


def _presets() -> dict[str, tuple[str, UgatitTrain]]:
    presets: dict[str, tuple[str, UgatitTrain]] = {}
    for dataset, names in DATASETS.items():
        full = UgatitTrain(
            channels_last=True, domain_names=names, data=UnpairedConfig(path=f"data/{dataset}")
        )
        table = f"image-to-image translation, {dataset}"
        presets |= {
            f"ugatit-{dataset}": (f"FQ-U-GAT-IT, {table}", full),
            f"ugatit-{dataset}-baseline": (f"U-GAT-IT, {table}", without_quantizer(full)),
            f"ugatit-{dataset}-light": (f"light FQ-U-GAT-IT, {table}", light(full)),
            f"ugatit-{dataset}-light-baseline": (
                f"light U-GAT-IT, {table}",
                without_quantizer(light(full)),
            ),
        }
    return presets


PRESETS: dict[str, tuple[str, UgatitTrain]] = {
    **_presets(),
    "ugatit-selfie2anime-small": ("64 pixels, reduced width, for a CPU", SMALL),
    "ugatit-selfie2anime-small-baseline": (
        "64 pixels, reduced width, no layer quantized",
        without_quantizer(SMALL),
    ),
    "ugatit-small-data": (
        "light FQ-U-GAT-IT with DiffAugment, for some hundreds of images",
        SMALL_DATA,
    ),
    "ugatit-demo": ("toy shapes from filled to inked and back", DEMO),
    "ugatit-smoke": ("a few tiny steps", SMOKE),
}
