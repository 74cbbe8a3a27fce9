"""All options of a U-GAT-IT training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..checks import at_least
from ..data.unpaired import UnpairedConfig
from ..runtime.precision import Precision
from ..scoring import FeatureOptions
from .config import (
    DiscriminatorConfig,
    GeneratorConfig,
    QuantizerConfig,
    ScheduleConfig,
    StepConfig,
    UgatitConfig,
)


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


@dataclass(frozen=True)
class UgatitTrain:
    """Train U-GAT-IT or FQ-U-GAT-IT. Run the same command again to continue a run."""

    run_dir: str = ""
    """Folder of the run; empty: runs/ and the experiment's name."""
    max_steps: int = 0
    """Iterations; 0: those of the schedule."""
    seed: int = 0
    """Of weights, order and augmentation."""
    device: str = "auto"
    """auto, cpu or cuda."""
    precision: Precision = "fp32"
    """The quantizer's dictionary is fp32 in all of them."""
    channels_last: bool = False
    """Memory order that tensor cores prefer."""
    deterministic: bool = False
    """Only kernels that give the same bits every time (CUDA); slower."""
    initial_weights: str = ""
    """Folder of weights to fine-tune; of a run or of `fqgan convert`."""
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
    keep: int = 2
    """Newest checkpoints that stay."""

    data: UnpairedConfig = field(default_factory=UnpairedConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)
    step: StepConfig = field(default_factory=StepConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    scoring: TranslationScoring = field(default_factory=lambda: TranslationScoring("inception"))

    def __post_init__(self) -> None:
        at_least(self, log_every=1, save_every=1, keep=1, sample_images=1)
        at_least(self, max_steps=0, evaluate_every=0, sample_every=0)
        self.networks()  # raises where the parts do not fit each other

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
